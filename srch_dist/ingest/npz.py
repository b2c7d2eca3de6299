"""NumPy .npz files, streamed: a member is decompressed a block of rows at a time."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from srch_dist.errors import InputError

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# A column-major member can only be read whole; beyond this it is refused.
_WHOLE_BYTES = 1 << 30


class NpzSource:
    """The arrays of an .npz file; see `srch_dist.ingest.source.Source`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._headers: dict[str, tuple[tuple[int, ...], bool, np.dtype[Any]]] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.filename.endswith(".npy"):
                        raise InputError(f"{path}: {info.filename!r} is not an .npy member")
                    name = info.filename.removesuffix(".npy")
                    with archive.open(info) as member:
                        self._headers[name] = self._read_header(name, member, info.file_size)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{path} is not a readable .npz file: {error}") from None

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every member, in the order of the file."""
        return {name: (shape, dtype) for name, (shape, _, dtype) in self._headers.items()}

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        """The member in runs of ``rows`` rows."""
        shape, fortran, dtype = self._headers[name]
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(f"{name}.npy") as member:
                self._skip_header(member)
                if fortran and len(shape) > 1:
                    flat = np.frombuffer(self._exactly(name, member, shape, dtype), dtype)
                    columns = flat.reshape(shape[::-1]).T
                    for start in range(0, shape[0], rows):
                        yield np.ascontiguousarray(columns[start : start + rows])
                else:
                    for start in range(0, shape[0] if shape else 1, rows):
                        size = (min(rows, shape[0] - start), *shape[1:]) if shape else ()
                        data = self._exactly(name, member, size, dtype)
                        yield np.frombuffer(data, dtype).reshape(size)
                if member.read(1):  # also makes zipfile compare the member's checksum
                    raise InputError(f"{self._path}: {name} holds more than its shape {shape} says")
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
            raise InputError(f"{self._path}: {name} cannot be read: {error}") from None
        except Exception as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self._path}: {name} is damaged: {error}") from None

    def _read_header(
        self, name: str, member: IO[bytes], file_size: int
    ) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        try:
            version = npy.read_magic(member)
            if version not in _READERS:
                raise ValueError(f"version {version} of the .npy format")
            shape, fortran, dtype = _READERS[version](member)
        except Exception as error:
            raise InputError(f"{self._path}: {name} is not an array: {error}") from None
        if dtype.hasobject:
            raise InputError(
                f"{self._path}: {name} is an object array; save it as numbers or as text"
            )
        if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize > file_size:
            raise InputError(
                f"{self._path}: {name} has shape {shape} of {dtype}, but holds {file_size} bytes"
            )
        if fortran and math.prod(shape) * dtype.itemsize > _WHOLE_BYTES:
            raise InputError(
                f"{self._path}: {name} is column-major and too large to turn; "
                "save np.ascontiguousarray(array)"
            )
        return shape, fortran, dtype

    @staticmethod
    def _skip_header(member: IO[bytes]) -> None:
        _READERS[npy.read_magic(member)](member)

    def _exactly(
        self, name: str, member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> bytes:
        size = math.prod(shape) * dtype.itemsize
        data = member.read(size)
        if len(data) != size:
            raise InputError(f"{self._path}: {name} ends early, {size - len(data)} bytes missing")
        return data
