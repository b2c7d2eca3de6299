"""Nearest neighbours, adjacency, edge weights and the graph Laplacian, on one block of rows."""
