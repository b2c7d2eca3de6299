"""Retrieval measures and example queries."""
