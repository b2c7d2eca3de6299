"""Sizes in memory: of records of arrays, for whoever moves them, and of what a cache holds."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

_CACHED_VALUES = 1 << 15


class Sized:
    """A dataclass whose ``sys.getsizeof`` counts its arrays.

    A scheduler that took such a record for a few bytes would move it to idle workers.
    """

    def __sizeof__(self) -> int:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return object.__sizeof__(self) + sum(_size(getattr(self, f.name)) for f in fields)


def _size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, scipy.sparse.csr_array):
        return _size(value.data) + _size(value.indices) + _size(value.indptr)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, tuple):
        return sum(map(_size, value))
    return sys.getsizeof(value)


def chunks(values: NDArray[Any]) -> Iterator[slice]:
    """Runs of the rows of ``values`` (rows, l) short enough to stay in a core's cache.

    A chain of operations on whole vectors of millions of rows goes through memory at each.
    """
    step = max(1, _CACHED_VALUES // values.shape[1])
    return (slice(start, start + step) for start in range(0, len(values), step))
