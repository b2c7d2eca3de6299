"""Seeded hashes of row numbers, for samples that do not depend on the partitioning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_rows(seed: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Mix a seed with row numbers (splitmix64), (n,) uint64, one value a row.

    The value of a row depends on nothing but the seed and its number, so anything drawn from
    it is the same for every partitioning.
    """
    start = _mix(np.array([seed], dtype=np.uint64) + _GOLDEN)
    return _mix(start + rows.astype(np.uint64) * _GOLDEN)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
