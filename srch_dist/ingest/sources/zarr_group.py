"""Existing Zarr arrays, v2 and v3, as a source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from srch_dist.ingest import limits
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.contents import ListedSource
from srch_dist.kernels.types import Array
from srch_dist.storage.foreign_zarr import ForeignArray, ForeignZarr


class ZarrSource(ListedSource):
    """A `Source` of the arrays of a Zarr group, or of one Zarr array.

    An array with missing chunks is unreadable, because missing chunks would read as the fill value.
    By default, Zarr does not store chunks that hold only the fill value. Such chunks count as
    missing, too.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._group = path, ForeignZarr(path)
        self._fills: dict[str, list[float]] = {}
        for name, array in self._group.arrays.items():
            with self.contents.describing(path, name):
                self._describe(name, array)
        for name, reason in self._group.unreadable.items():
            self.contents.refuse(name, reason)
        line = "scipy.sparse.csr_matrix((data, indices, indptr), shape).toarray()."
        self.contents.fold_sparse(path.stem, lambda _: line)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        shape, dtype = self.contents.specs[name]
        for first in range(start, shape[0] if shape else 1, rows):
            stop = min(first + rows, shape[0]) if shape else 1
            block = np.asarray(self._group.read(name, first, stop), dtype)
            if shape:
                label = f"{self._path}: {name}"
                reasons.refuse_fill(label, self._fills.get(name, []), block, first)
            yield block

    def _describe(self, name: str, array: ForeignArray) -> None:
        if not self.contents.add(name, array.shape, array.dtype):
            return
        limits.refuse_chunk(self._path, name, array.chunks, array.dtype.itemsize)
        if name in self._group.incomplete:
            self.contents.refuse(name, reasons.left_out_chunks(*self._group.incomplete[name]))
            return
        size = math.prod(array.shape) * array.dtype.itemsize
        limits.refuse_bomb(self._path, name, size, array.stored)
        if array.dtype.kind in "fiu":
            if (packed := reasons.packed(array.attributes)) is not None:
                self.contents.refuse(name, packed, side_only=len(array.shape) != 2)
            self._fills[name] = reasons.fill_values(array.attributes)
