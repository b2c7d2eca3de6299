"""Gaussian (RBF) similarities of rows to anchor rows. The module imports NumPy alone."""

from __future__ import annotations

import numpy as np

from srch_dist.kernels.types import Array

# Rows of a tile of similarities. Codes depend on it, since sums over rows round tile by tile.
TILE = 2048


def similarities(features: Array, anchors: Array, bandwidth: float) -> Array:
    """Compute Gaussian similarities exp(-‖x - a‖² / δ²) of rows x to anchors a.

    Parameters
    ----------
    features, anchors : (n, d) and (m, d) rows.
    bandwidth : δ², a squared distance.

    Returns
    -------
    Similarities (n, m), of the dtype of the features.
    """
    near = squared_distances(features, anchors)
    near /= -bandwidth
    return np.exp(near, out=near)


def squared_distances(left: Array, right: Array) -> Array:
    """Compute squared Euclidean distances ‖x - y‖² (n, m) of the rows of (n, d) and (m, d).

    The form is ‖x‖² + ‖y‖² - 2x'y in the dtype of the rows; negative results become zero.
    """
    left_norms, right_norms = (np.einsum("ij,ij->i", rows, rows) for rows in (left, right))
    distances: Array = left @ right.T
    distances *= -2.0
    distances += left_norms[:, None]
    distances += right_norms
    return np.maximum(distances, 0.0, out=distances)
