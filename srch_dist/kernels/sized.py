"""Base class for dataclasses of arrays that reports their memory to Dask."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import scipy.sparse


class Sized:
    """A dataclass whose ``sys.getsizeof`` counts its arrays, in bytes.

    Dask's scheduler moves an object between workers if its size is small. The default size is a few
    bytes, without the arrays.
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
