"""Side arrays as columns of Arrow tables."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from srch_dist.kernels.types import Array


def arrow_column(pa: ModuleType, values: Array) -> Any:
    """Convert a side array (n, …) to an Arrow array of n values, or of n nested lists."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind in "UT":
        flat = pa.array(values.ravel().tolist(), pa.string())
    else:  # Arrow has no types of foreign byte order
        flat = pa.array(values.astype(values.dtype.newbyteorder("="), copy=False).ravel())
    for axis in range(values.ndim - 1, 0, -1):
        ends = np.arange(math.prod(values.shape[:axis]) + 1, dtype=np.int32) * values.shape[axis]
        flat = pa.ListArray.from_arrays(pa.array(ends), flat)
    return flat
