"""NumPy .npz files as a source: members are decompressed one block of rows at a time."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from srch_dist.errors import InputError, refusal
from srch_dist.ingest import limits
from srch_dist.ingest.sources.contents import ListedSource, native_text
from srch_dist.ingest.sources.npy import NpyHeader, read_header, skip_header
from srch_dist.kernels.types import Array

# Exceptions that zipfile raises for a damaged archive.
_UNREADABLE = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,  # a name that claims to be UTF-8
    zlib.error,
    struct.error,
)


class NpzSource(ListedSource):
    """A `Source` of the arrays of an .npz file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._headers: dict[str, NpyHeader] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if info.filename.endswith(".npy"):
                        name = info.filename.removesuffix(".npy")
                        with self.contents.describing(path, name):
                            self._describe(archive, info, name)
                    else:
                        self.contents.skipped[info.filename] = "not an .npy member"
        except _UNREADABLE as error:
            raise refusal(
                InputError, f"{path} is not a readable .npz file: {error}", error
            ) from None
        self.contents.fold_sparse(path.stem, self._dense_line)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the member ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        for block in self._blocks(name, rows):
            # A compressed member can be read only from its first row on.
            if not block.ndim or start < len(block):
                yield native_text(block[start:] if start else block)
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
                    raise InputError(
                        f"{self._path}: {name} holds more data than its shape {shape} of {dtype}"
                    )
        except _UNREADABLE as error:
            raise refusal(
                InputError, f"{self._path}: {name} cannot be read: {error}", error
            ) from None
        except Exception as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self._path}: {name} is damaged: {error}") from None

    def _describe(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> None:
        if name in self._headers:
            raise InputError(f"{self._path}: two arrays are named {name}. Rename one of them.")
        try:
            with archive.open(info) as member:
                header = read_header(self._path, name, member, info.file_size)
        except _UNREADABLE as error:
            raise refusal(
                InputError, f"{self._path}: {name} cannot be read: {error}", error
            ) from None
        shape, fortran, dtype = header
        size = math.prod(shape) * dtype.itemsize
        if self.contents.add(name, shape, dtype) and fortran and size > limits.MAX_BLOCK_BYTES:
            raise InputError(
                f"{self._path}: {name} is column-major and has {size} bytes; at most "
                f"{limits.MAX_BLOCK_BYTES} bytes are transposed in memory. Save "
                f"np.ascontiguousarray({name})."
            )
        limits.refuse_bomb(self._path, name, info.file_size, info.compress_size)
        self._headers[name] = header

    def _dense_line(self, prefix: str) -> str:
        """Return Python code that makes a dense array from the sparse members ``prefix`` + part."""
        if not prefix:
            loaded = f'scipy.sparse.load_npz("{self._path.name}").toarray()'
            return f'np.save("{self._path.stem}.npy", {loaded}).'
        return "scipy.sparse.csr_matrix((data, indices, indptr), shape).toarray()."

    def _read_exactly(
        self, name: str, member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> bytes:
        size = math.prod(shape) * dtype.itemsize
        data = member.read(size)
        if len(data) != size:
            missing = size - len(data)
            raise InputError(f"{self._path}: {name} is truncated: {missing} bytes are missing")
        return data
