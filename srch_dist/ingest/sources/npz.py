"""NumPy .npz files as a source: members are decompressed one block of rows at a time."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest import limits
from srch_dist.ingest.sources.base import Specs
from srch_dist.ingest.sources.npy import NpyHeader, read_header, skip_header
from srch_dist.kernels.types import Array


class NpzSource:
    """A `Source` of the arrays of an .npz file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.skipped: Mapping[str, str] = {}
        self._headers: dict[str, NpyHeader] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.filename.endswith(".npy"):
                        raise InputError(
                            f"{path}: {info.filename!r} is not an .npy member. Remove it from the "
                            "archive."
                        )
                    name = info.filename.removesuffix(".npy")
                    with archive.open(info) as member:
                        self._headers[name] = self._read_header(name, member, info.file_size)
                    limits.refuse_bomb(path, name, info.file_size, info.compress_size)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{path} is not a readable .npz file: {error}") from None

    def specs(self) -> Specs:
        """(shape, dtype) of every member by name, in the order of the file."""
        return {name: (shape, dtype) for name, (shape, _, dtype) in self._headers.items()}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the member from row ``start`` in blocks of ``rows`` rows."""
        for block in self._blocks(name, rows):
            # A compressed member has no entry point but its first row.
            if not block.ndim or start < len(block):
                yield block[start:] if start else block
            start = max(0, start - len(block)) if block.ndim else 0

    def _blocks(self, name: str, rows: int) -> Iterator[Array]:
        shape, fortran, dtype = self._headers[name]
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(f"{name}.npy") as member:
                skip_header(member)
                if fortran and len(shape) > 1:
                    flat = np.frombuffer(self._read_exactly(name, member, shape, dtype), dtype)
                    columns = flat.reshape(shape[::-1]).T
                    for start in range(0, shape[0], rows):
                        yield np.ascontiguousarray(columns[start : start + rows])
                else:
                    for start in range(0, shape[0] if shape else 1, rows):
                        size = (min(rows, shape[0] - start), *shape[1:]) if shape else ()
                        data = self._read_exactly(name, member, size, dtype)
                        yield np.frombuffer(data, dtype).reshape(size)
                if member.read(1):  # also makes zipfile compare the member's checksum
                    raise InputError(f"{self._path}: {name} holds more data than its shape {shape}")
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
            raise InputError(f"{self._path}: {name} cannot be read: {error}") from None
        except Exception as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self._path}: {name} is damaged: {error}") from None

    def _read_header(self, name: str, member: IO[bytes], file_size: int) -> NpyHeader:
        header = shape, fortran, dtype = read_header(self._path, name, member, file_size)
        size = math.prod(shape) * dtype.itemsize
        if fortran and size > limits.MAX_BLOCK_BYTES:
            raise InputError(
                f"{self._path}: {name} is column-major and has {size} bytes; at most "
                f"{limits.MAX_BLOCK_BYTES} are transposed in memory. Save "
                f"np.ascontiguousarray({name})."
            )
        return header

    def _read_exactly(
        self, name: str, member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> bytes:
        size = math.prod(shape) * dtype.itemsize
        data = member.read(size)
        if len(data) != size:
            missing = size - len(data)
            raise InputError(f"{self._path}: {name} is truncated: {missing} bytes are missing")
        return data
