"""The head of an .npy file or member: shape, order and dtype, never with pickled objects."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from srch_dist.errors import InputError

NpyHeader = tuple[tuple[int, ...], bool, np.dtype[Any]]

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_header(path: Path, name: str, file: IO[bytes], size: int) -> NpyHeader:
    """(shape, column-major or not, dtype) of an .npy of ``size`` bytes, its head included.

    Raises
    ------
    InputError : no .npy header, an object array, or more values than there are bytes.
    """
    try:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"version {version} of the .npy format")
        shape, fortran, dtype = _READERS[version](file)
    except Exception as error:
        raise InputError(f"{path}: {name} is not an array: {error}") from None
    if dtype.hasobject:
        raise InputError(f"{path}: {name} is an object array; save it as numbers or as text")
    if any(rows < 0 for rows in shape) or math.prod(shape) * dtype.itemsize > size:
        raise InputError(f"{path}: {name} has shape {shape} of {dtype}, but holds {size} bytes")
    return shape, fortran, dtype


def skip_header(file: IO[bytes]) -> None:
    """Move past a header that `read_header` has read before."""
    _READERS[npy.read_magic(file)](file)
