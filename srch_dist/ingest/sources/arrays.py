"""Arrays in memory or on disk as a source: NumPy, Dask, Zarr, HDF5 datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources.base import Specs
from srch_dist.kernels.types import Array


class ArraySource:
    """A `Source` of arrays by name: anything with a shape, a dtype and row slices."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.skipped: Mapping[str, str] = {}
        self._arrays: dict[str, Any] = {}
        for name, values in arrays.items():
            array = values if hasattr(values, "shape") and hasattr(values, "dtype") else None
            if array is None:
                array = np.asarray(values)
            if any(not isinstance(size, int | np.integer) for size in array.shape):
                raise InputError(
                    f"{name} has shape {array.shape}: its number of rows is unknown. Call "
                    "compute_chunk_sizes() on the Dask array first."
                )
            self._arrays[name] = array

    def specs(self) -> Specs:
        """(shape, dtype) of every array by name."""
        return {
            name: (tuple(int(size) for size in array.shape), np.dtype(array.dtype))
            for name, array in self._arrays.items()
        }

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start`` in blocks of ``rows`` rows."""
        array = self._arrays[name]
        if not array.shape:
            yield np.asarray(array)
            return
        for first in range(start, array.shape[0], rows):
            yield np.asarray(array[first : first + rows])
