"""Existing Zarr arrays, v2 and v3, as a source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from srch_dist.ingest import limits
from srch_dist.ingest.sources.base import Specs
from srch_dist.kernels.types import Array
from srch_dist.storage.foreign_zarr import ForeignZarr


class ZarrSource:
    """A `Source` of the arrays of a Zarr group, or of one Zarr array."""

    def __init__(self, path: Path) -> None:
        self._group = ForeignZarr(path)
        self.skipped: Mapping[str, str] = self._group.left_out
        for name, (shape, chunks, dtype, stored) in self._group.arrays.items():
            limits.refuse_chunk(path, name, chunks, dtype.itemsize)
            limits.refuse_bomb(path, name, math.prod(shape) * dtype.itemsize, stored)

    def specs(self) -> Specs:
        """(shape, dtype) of every array by name."""
        return {name: (shape, dtype) for name, (shape, _, dtype, _) in self._group.arrays.items()}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start`` in blocks of ``rows`` rows."""
        shape, _, dtype, _ = self._group.arrays[name]
        for first in range(start, shape[0] if shape else 1, rows):
            stop = min(first + rows, shape[0]) if shape else 1
            yield np.asarray(self._group.read(name, first, stop), dtype)
