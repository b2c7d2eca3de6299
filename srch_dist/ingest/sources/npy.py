"""One array an .npy file, memory-mapped, so that any part of it is read without the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from srch_dist.errors import InputError


class NpySource:
    """The array of an .npy file, by the file's stem; see `srch_dist.ingest.sources.base.Source`."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.stem
        self.left_out: Mapping[str, str] = {}
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                self._shape, self._fortran, self._dtype = read_header(path, self.name, file, size)
                self._offset = file.tell()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error}") from None
        promised = self._offset + math.prod(self._shape) * self._dtype.itemsize
        if promised != size:
            raise InputError(
                f"{path} has shape {self._shape} of {self._dtype}, which takes {promised} bytes "
                f"with its header, but holds {size}; write it again"
            )

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of the one array."""
        return {self.name: (self._shape, self._dtype)}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The array ``name``, the only one, from row ``start`` in runs of ``rows`` rows."""
        if name != self.name:
            raise InputError(f"{self._path} has no array {name!r}")
        if not math.prod(self._shape):  # nothing to map
            yield np.empty(self._shape, self._dtype)
            return
        order: Literal["C", "F"] = "F" if self._fortran else "C"
        stop = self._shape[0] if self._shape else 1
        for first in range(start, stop, rows):
            try:
                # Mapped anew for every block: pages of an old map would count as memory in use.
                mapped = np.memmap(
                    self._path, self._dtype, "r", self._offset, self._shape, order=order
                )
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read {self._path}: {error}") from None
            yield np.array(mapped[first : first + rows] if self._shape else mapped, order="C")


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
