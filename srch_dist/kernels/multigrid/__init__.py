"""Conjugate gradients with an aggregation-based multilevel preconditioner, on one block of rows."""
