"""Gaussian similarities of rows to anchor rows; NumPy alone, for whoever only encodes."""

from __future__ import annotations

import numpy as np

from srch_dist.kernels.types import Array

# Rows whose similarities to the anchors are held at once, and whose sums are rounded together.
TILE = 2048


def similarities(features: Array, anchors: Array, bandwidth: float) -> Array:
    """exp(-‖x - a‖² / δ²), (n, m), of features (n, d) and anchors (m, d), with δ² = bandwidth."""
    near = squared_distances(features, anchors)
    near /= -bandwidth
    return np.exp(near, out=near)


def squared_distances(left: Array, right: Array) -> Array:
    """‖x - y‖² (n, m) of rows (n, d) and (m, d)."""
    left_norms, right_norms = (np.einsum("ij,ij->i", rows, rows) for rows in (left, right))
    distances: Array = left @ right.T
    distances *= -2.0
    distances += left_norms[:, None]
    distances += right_norms
    return np.maximum(distances, 0.0, out=distances)
