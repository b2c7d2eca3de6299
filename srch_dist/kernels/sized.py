"""Base class of dataclasses with arrays; it reports the memory of the arrays to Dask."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import scipy.sparse


class Sized:
    """A dataclass for which ``sys.getsizeof`` counts the bytes of all arrays.

    Dask's scheduler moves an object between workers if the object is small. For other dataclasses,
    ``sys.getsizeof`` is a few bytes, because it does not count arrays.
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
