"""Conjugate gradients and their aggregation preconditioner on one block."""
