"""Transpose arrays that a source stores as (d, n); options name them ``array.T``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.limits import refuse_full_disk
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.kernels.types import Array
from srch_dist.runtime.temporary import temporary_folder
from srch_dist.storage.disk_space import create_map

MARK = ".T"
# Bytes of a (d, n) array per read.
_BLOCK_BYTES = 32 << 20


class TransposedSource:
    """A `Source` in which ``a.T`` is the transpose of the matrix ``a``.

    Sources stream rows only, so the first read writes the transpose to a temporary file.
    """

    def __init__(self, source: Source, arrays: Sequence[str]) -> None:
        """Replace matrices of ``source`` by their transposes; ``arrays`` are names ``a.T``."""
        self._source = source
        self.skipped = source.skipped
        self.unreadable, self.side_only = source.unreadable, source.side_only
        self.joined = source.joined
        self._specs = dict(source.specs())
        self._folder = temporary_folder()
        self._files: dict[str, Path] = {}
        for array in arrays:
            name = array.removesuffix(MARK)
            if name in self.unreadable:
                raise InputError(f"{name} {self.unreadable[name]}")
            shape, dtype = self._specs.pop(name)
            if len(shape) != 2 or dtype.kind not in "fiub":
                raise InputError(
                    f"{name} has shape {shape} of {dtype}; only a 2-D array can be transposed"
                )
            self._specs[array] = shape[::-1], dtype
        self._transposed = frozenset(arrays)

    def specs(self) -> Specs:
        """Return (shape, dtype) of every array; transposed arrays come last."""
        return self._specs

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        if name not in self._transposed:
            return self._source.blocks(name, rows, start)
        values = self._spooled(name)
        return (np.array(values[at : at + rows]) for at in range(start, len(values), rows))

    def _spooled(self, name: str) -> Array:
        """Return the transpose as a memory map of a temporary file, which the first call writes."""
        shape, dtype = self._specs[name]
        if 0 in shape:
            return np.empty(shape, dtype)
        if name not in self._files:
            path = Path(self._folder.name, str(len(self._files)))
            refuse_full_disk(path, shape[0] * shape[1] * dtype.itemsize)
            values = create_map(path, dtype, shape)
            at, step = 0, max(1, _BLOCK_BYTES // (shape[0] * dtype.itemsize))
            for block in self._source.blocks(name.removesuffix(MARK), step):
                values[:, at : at + len(block)] = block.T
                at += len(block)
            if at != shape[1]:
                raise InputError(f"{name} is truncated: read {at} of {shape[1]} rows")
            values.flush()
            self._files[name] = path
        return np.memmap(self._files[name], dtype, "r", shape=shape)


def transpose_arrays(
    source: Source, modalities: Sequence[str] | None, side: Sequence[str] | None
) -> Source:
    """Transpose the matrices that the options name as ``a.T``, also within stacks ``a.T+b.T``."""
    known = source.specs()
    arrays = [
        part
        for item in (*(modalities or ()), *(side or ()))
        for part in (item.partition("=")[2] or item).split("+")
        if part.endswith(MARK)
        and part not in known
        and part.removesuffix(MARK) in {**known, **source.unreadable}
    ]
    return TransposedSource(source, list(dict.fromkeys(arrays))) if arrays else source
