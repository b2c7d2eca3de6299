"""Neighbour graph of one modality, and its Laplacian."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from .protocol import FloatArray


def neighbour_graph(X: FloatArray, neighbours: int) -> sparse.csr_array:
    """Symmetric 0/1 adjacency (n, n): an edge if either row is among the other's k nearest.

    It has no self edges. k is ``neighbours``, at most n - 1.
    """
    k = min(neighbours, X.shape[0] - 1)
    directed = sparse.csr_array(kneighbors_graph(X, k, include_self=False, n_jobs=1))
    return sparse.csr_array(directed.maximum(directed.T))


def laplacian(adjacency: sparse.csr_array) -> sparse.csr_array:
    """Unnormalised Laplacian D - A (n, n)."""
    degrees = np.asarray(adjacency.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(degrees) - adjacency)
