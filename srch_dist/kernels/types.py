"""Array types that all modules share; shapes stand in the docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
IntArray = NDArray[np.int64]
# Codes of ±1, and eight of them in a byte: bit j of a row is bit j % 8 of byte j // 8.
Codes = NDArray[np.int8]
Packed = NDArray[np.uint8]
Arrays = Mapping[str, Array]
