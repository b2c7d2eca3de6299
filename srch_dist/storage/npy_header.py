"""Read the headers of .npy files, and check them before memory is allocated for the values.

`numpy.load` allocates the memory that a header claims, and unpickles object arrays.
`read_npy_header` reads only the header and refuses object arrays. The caller then compares
`NpyHeader.value_bytes` with the number of stored bytes.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# By version: NumPy's function that reads a header, and the bytes of the field with its length.
_READERS = {(1, 0): (npy.read_array_header_1_0, 2), (2, 0): (npy.read_array_header_2_0, 4)}
# Longest header that NumPy parses. NumPy reads a longer header, up to 4 GiB, and then refuses it.
_MAX_HEADER_BYTES = 10_000
# NumPy pads the header of an array of few dimensions to this many bytes.
HEADER_BYTES = 128


class ObjectArrayError(ValueError):
    """Raised for an array of Python objects: to read it, NumPy would have to unpickle data."""


@dataclass(frozen=True)
class NpyHeader:
    """The header of an .npy file.

    Attributes
    ----------
    shape, dtype : shape and dtype of the array.
    column_major : whether the values are stored column by column (Fortran order).
    offset : length of the header in bytes; the values follow the header.
    """

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def row_values(self) -> int:
        """Number of values in one row."""
        return math.prod(self.shape[1:])

    @property
    def value_bytes(self) -> int:
        """Size of all values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def fits(self, size: int) -> bool:
        """Whether the shape is valid and all values fit into ``size`` bytes."""
        return min(self.shape, default=0) >= 0 and self.value_bytes <= size


def map_npy(path: str | Path) -> NDArray[Any]:
    """Map the array of an .npy file into memory.

    Raises
    ------
    ValueError : the file is damaged, holds Python objects, or is shorter than its header claims.
    OSError : the file cannot be read.
    """
    with Path(path).open("rb") as file:
        header = read_npy_header(file)
        values = os.fstat(file.fileno()).st_size - header.offset
    if not header.fits(values):
        raise ValueError(
            f"its header claims {header.shape} of {header.dtype}, but only {values} bytes follow"
        )
    if not header.value_bytes:  # nothing to map
        return np.empty(header.shape, header.dtype)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def read_npy_header(file: IO[bytes]) -> NpyHeader:
    """Read the header of an .npy file, and leave ``file`` positioned at the first value.

    Raises
    ------
    ObjectArrayError : the array holds Python objects.
    ValueError : the header is damaged, or has a version other than 1.0 or 2.0.
    OSError : the file cannot be read.
    """
    start = file.tell()
    try:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"version {version} of the .npy format, expected 1.0 or 2.0")
        reader, digits = _READERS[version]
        claimed = file.read(digits)
        length = int.from_bytes(claimed, "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(
                f"the header claims {length} bytes, expected at most {_MAX_HEADER_BYTES}"
            )
        shape, column_major, dtype = reader(io.BytesIO(claimed + file.read(length)))
    except OSError:
        raise
    except Exception as error:  # NumPy raises many kinds over a damaged header
        raise ValueError(str(error)) from None
    if dtype.hasobject:
        raise ObjectArrayError("an object array")
    return NpyHeader(shape, column_major, dtype, file.tell() - start)


@lru_cache(maxsize=4096)
def parse_header(content: bytes) -> NpyHeader:
    """Parse a header of `HEADER_BYTES` of an array in C order; raise ValueError if damaged."""
    header = read_npy_header(io.BytesIO(content))
    if header.column_major:
        raise ValueError("its values are stored column by column")
    return header
