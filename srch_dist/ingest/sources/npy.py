"""NumPy .npy files as a source: memory-mapped, so that each block of rows is read separately."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from srch_dist.errors import InputError, refusal
from srch_dist.ingest.sources.contents import ListedSource, native_text
from srch_dist.kernels.types import Array
from srch_dist.storage.npy_header import ObjectArrayError, read_npy_header


class NpySource(ListedSource):
    """A `Source` of the array of an .npy file; the array has the file's name without .npy."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self.name = path, path.stem
        with self.contents.describing(path, self.name):
            self._describe()

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start`` on, in blocks of ``rows`` rows in C order."""
        if name not in self.contents.specs:
            raise InputError(f"{self._path} has no array {name!r}")
        if not math.prod(self._shape):  # an empty file range cannot be mapped
            yield np.empty(self._shape, self._dtype)
            return
        order: Literal["C", "F"] = "F" if self._fortran else "C"
        stop = self._shape[0] if self._shape else 1
        for first in range(start, stop, rows):
            try:
                # A new map per block, because the pages of an open map count as process memory.
                mapped = np.memmap(
                    self._path, self._dtype, "r", self._offset, self._shape, order=order
                )
            except (OSError, ValueError) as error:
                raise refusal(InputError, f"cannot read {self._path}: {error}", error) from None
            block = np.array(mapped[first : first + rows] if self._shape else mapped, order="C")
            yield native_text(block)

    def _describe(self) -> None:
        try:
            size = self._path.stat().st_size
            with self._path.open("rb") as file:
                self._shape, self._fortran, self._dtype = read_header(
                    self._path, self.name, file, size
                )
                self._offset = file.tell()
        except OSError as error:
            raise refusal(InputError, f"cannot read {self._path}: {error}", error) from None
        expected = self._offset + math.prod(self._shape) * self._dtype.itemsize
        if expected != size:
            raise InputError(
                f"{self._path}: {self.name} has {size} bytes, expected {expected} for its "
                f"shape {self._shape} of {self._dtype}. Save it again."
            )
        self.contents.add(self.name, self._shape, self._dtype)


NpyHeader = tuple[tuple[int, ...], bool, np.dtype[Any]]


def read_header(path: Path, name: str, file: IO[bytes], size: int) -> NpyHeader:
    """Read and check the header of an .npy file, or of an .npy file inside an .npz archive.

    ``size`` is the number of bytes of the .npy file, header included.

    Raises
    ------
    InputError : the header is missing, or states an object array or a too large shape.
    """
    try:
        header = read_npy_header(file)
    except ObjectArrayError:
        raise InputError(
            f"{path}: {name} is an object array; save it as numbers or as text"
        ) from None
    except (ValueError, OSError) as error:
        raise refusal(InputError, f"{path}: {name} is not an array: {error}", error) from None
    if not header.fits(size):
        raise InputError(
            f"{path}: {name} has shape {header.shape} of {header.dtype}, but only {size} bytes, "
            "header included. Save the array again."
        )
    return header.shape, header.column_major, header.dtype


def skip_header(file: IO[bytes]) -> None:
    """Move past a header that `read_header` has already checked."""
    read_npy_header(file)
