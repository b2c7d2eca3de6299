"""Gaussian (RBF) similarities of rows to anchor rows, on NumPy alone, as encoding needs them."""

from __future__ import annotations

import numpy as np

from srch_dist.kernels.types import Array

# Rows of a tile of similarities. Sums over rows are rounded tile by tile, so codes depend on it.
TILE = 2048


def similarities(features: Array, anchors: Array, bandwidth: float) -> Array:
    """Gaussian similarities exp(-‖x - a‖² / δ²).

    Parameters
    ----------
    features, anchors : (n, d) and (m, d).
    bandwidth : δ².

    Returns
    -------
    (n, m), of the features' dtype.
    """
    near = squared_distances(features, anchors)
    near /= -bandwidth
    return np.exp(near, out=near)


def squared_distances(left: Array, right: Array) -> Array:
    """Squared Euclidean distances ‖x - y‖² (n, m) of the rows of (n, d) and (m, d).

    Computed as ‖x‖² + ‖y‖² - 2x'y, in the dtype of the rows; rounding below zero becomes zero.
    """
    left_norms, right_norms = (np.einsum("ij,ij->i", rows, rows) for rows in (left, right))
    distances: Array = left @ right.T
    distances *= -2.0
    distances += left_norms[:, None]
    distances += right_norms
    return np.maximum(distances, 0.0, out=distances)
