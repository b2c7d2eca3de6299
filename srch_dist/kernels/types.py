"""Array types of the package. Docstrings give the shapes of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]
# ±1 codes (n, bits), and packed codes (n, bits / 8): bit j of a row is bit j % 8 of byte j // 8.
Codes = NDArray[np.int8]
Packed = NDArray[np.uint8]
Arrays = Mapping[str, Array]
