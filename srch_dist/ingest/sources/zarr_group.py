"""Existing Zarr arrays, v2 and v3, as a source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.ingest import limits
from srch_dist.storage.foreign_zarr import ForeignZarr


class ZarrSource:
    """The arrays of a Zarr group, or one array; see `srch_dist.ingest.sources.base.Source`."""

    def __init__(self, path: Path) -> None:
        self._group = ForeignZarr(path)
        self.left_out: Mapping[str, str] = self._group.left_out
        for name, (shape, chunks, dtype, stored) in self._group.arrays.items():
            limits.refuse_chunk(path, name, chunks, dtype.itemsize)
            limits.refuse_bomb(path, name, math.prod(shape) * dtype.itemsize, stored)

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every array, by name."""
        return {name: (shape, dtype) for name, (shape, _, dtype, _) in self._group.arrays.items()}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The array from row ``start`` in runs of ``rows`` rows."""
        shape, _, dtype, _ = self._group.arrays[name]
        for first in range(start, shape[0] if shape else 1, rows):
            stop = min(first + rows, shape[0]) if shape else 1
            yield np.asarray(self._group.read(name, first, stop), dtype)
