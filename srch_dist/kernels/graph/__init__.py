"""Adjacency, Laplacian and neighbours on one block."""
