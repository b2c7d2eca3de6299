"""Principal subspace of a sample of rows, in which neighbours are searched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.types import Array

# Maximum number of rows to compute principal directions from. The number of directions is a
# multiple of `_LANES`, which fills vector registers.
_PRINCIPAL_ROWS, _LANES = 1 << 14, 32
# Rows that are centred, multiplied or projected at once.
_TILE_ROWS = 1024
# Share of the variance that the subspace of the partitioned search keeps, and its most dimensions.
_SEARCH_VARIANCE, SEARCH_DIMS = 0.9, 256


@dataclass(frozen=True)
class Subspace:
    """An affine subspace.

    Attributes
    ----------
    mean : (d,) float64 origin.
    directions : (d, r) float64 orthonormal directions. If r = 0, the subspace has all dimensions.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]

    def project(self, features: Array) -> NDArray[np.float32]:
        """Project rows (n, d) to float32 coordinates (n, r) in the subspace, tile by tile."""
        tiles = range(0, len(features), _TILE_ROWS)
        if not self.directions.shape[1]:
            parts = [features[start : start + _TILE_ROWS] - self.mean for start in tiles]
            return np.concatenate(parts, dtype=np.float32, casting="same_kind")
        directions = self.directions.astype(np.float32)
        mean = self.mean.astype(np.float32)
        points = np.empty((len(features), directions.shape[1]), dtype=np.float32)
        for start in tiles:
            tile = features[start : start + _TILE_ROWS].astype(np.float32, copy=False)
            points[start : start + _TILE_ROWS] = (tile - mean) @ directions
        return points

    def lift(self, points: Array) -> NDArray[np.float64]:
        """Return the rows (n, d) of coordinates (n, r)."""
        wide = points.astype(np.float64)
        return self.mean + (wide @ self.directions.T if self.directions.shape[1] else wide)


def search_subspace(sample: Array) -> Subspace:
    """Compute the subspace for the partitioned search from sampled rows (m, d).

    It keeps nine tenths of the variance, in at most 255 dimensions. Rows of at most 256 dimensions
    that need more than half of them keep all dimensions.
    """
    dims = sample.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64)
    directions = principal_subspace(sample, _SEARCH_VARIANCE)
    if dims <= SEARCH_DIMS and 2 * directions.shape[1] > dims:
        return Subspace(mean, np.empty((dims, 0)))
    # One direction less: points have a column for their norm, and columns fill vector registers.
    count = min(directions.shape[1], SEARCH_DIMS) - 1
    return Subspace(mean, np.ascontiguousarray(directions[:, :count]))


def principal_subspace(features: Array, share: float) -> NDArray[np.float64]:
    """Compute the leading principal directions that keep a given share of the variance.

    The directions are computed from at most 16,384 evenly spaced rows.

    Parameters
    ----------
    features : (n, d) rows.
    share : share of the variance, 0 to 1.

    Returns
    -------
    Directions (d, r) float64, orthonormal. r is rounded up to a multiple of 32, at most d.
    """
    sample = features[:: -(-len(features) // _PRINCIPAL_ROWS)]
    mean = sample.mean(axis=0, dtype=np.float64)
    gram = np.zeros((len(mean), len(mean)))
    for start in range(0, len(sample), _TILE_ROWS):
        own = sample[start : start + _TILE_ROWS] - mean
        gram += own.T @ own
    variances, directions = np.linalg.eigh(gram)
    kept = np.cumsum(variances[::-1]) / max(variances.sum(), np.finfo(np.float64).tiny)
    count = int(np.searchsorted(kept, share)) + 1
    return np.ascontiguousarray(directions[:, ::-1][:, : -(-count // _LANES) * _LANES])
