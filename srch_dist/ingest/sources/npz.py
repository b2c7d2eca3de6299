"""NumPy .npz files, streamed: a member is decompressed a block of rows at a time."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.ingest import limits
from srch_dist.ingest.sources.npy import NpyHeader, read_header, skip_header


class NpzSource:
    """The arrays of an .npz file; see `srch_dist.ingest.sources.base.Source`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.left_out: Mapping[str, str] = {}
        self._headers: dict[str, NpyHeader] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.filename.endswith(".npy"):
                        raise InputError(f"{path}: {info.filename!r} is not an .npy member")
                    name = info.filename.removesuffix(".npy")
                    with archive.open(info) as member:
                        self._headers[name] = self._checked(name, member, info.file_size)
                    limits.refuse_bomb(path, name, info.file_size, info.compress_size)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{path} is not a readable .npz file: {error}") from None

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every member, in the order of the file."""
        return {name: (shape, dtype) for name, (shape, _, dtype) in self._headers.items()}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The member from row ``start`` in runs of ``rows`` rows."""
        for block in self._blocks(name, rows):
            # A compressed member cannot be entered in its middle.
            if not block.ndim or start < len(block):
                yield block[start:] if start else block
            start = max(0, start - len(block)) if block.ndim else 0

    def _blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        shape, fortran, dtype = self._headers[name]
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(f"{name}.npy") as member:
                skip_header(member)
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

    def _checked(self, name: str, member: IO[bytes], file_size: int) -> NpyHeader:
        header = shape, fortran, dtype = read_header(self._path, name, member, file_size)
        if fortran and math.prod(shape) * dtype.itemsize > limits.WHOLE_BYTES:
            raise InputError(
                f"{self._path}: {name} is column-major and too large to turn; "
                "save np.ascontiguousarray(array)"
            )
        return header

    def _exactly(
        self, name: str, member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> bytes:
        size = math.prod(shape) * dtype.itemsize
        data = member.read(size)
        if len(data) != size:
            raise InputError(f"{self._path}: {name} ends early, {size - len(data)} bytes missing")
        return data
