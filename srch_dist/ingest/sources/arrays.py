"""Arrays of a Python caller as a source: NumPy, Dask, Zarr, HDF5, tensors, tables, lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.contents import ListedSource, native_text
from srch_dist.kernels.types import Array
from srch_dist.storage.in_memory import as_array, index_of, read_rows

# Names of dtypes of the package ml_dtypes. NumPy gives them the kind of untyped bytes.
_SMALL_FLOATS = ("bfloat16", "float8", "float6", "float4")


class ArraySource(ListedSource):
    """A `Source` of named arrays: any objects that `as_array` accepts."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        super().__init__()
        self._arrays: dict[str, Any] = {}
        indexed: tuple[str, Any] | None = None
        for name, values in arrays.items():
            try:
                array = as_array(name, values)
            except InputError as error:
                self.contents.refuse(name, str(error).removeprefix(f"{name} "))
                continue
            self._add(name, array)
            index = index_of(values)
            if index is not None:
                indexed = indexed or (name, index)
                self._check_index(name, index, *indexed)

    def _add(self, name: str, array: Any) -> None:
        if any(not isinstance(size, int | np.integer) for size in array.shape):
            raise InputError(
                f"{name} has shape {array.shape}: its number of rows is unknown. Call "
                "compute_chunk_sizes() on the Dask array first."
            )
        self._arrays[name] = array
        shape = tuple(int(size) for size in array.shape)
        dtype = np.dtype(array.dtype)
        # The name alone does not suffice: "float64" also starts with "float6".
        small = dtype.kind == "V" and str(dtype).startswith(_SMALL_FLOATS)
        self.contents.add(name, shape, np.dtype(np.float32) if small else dtype)
        reason = reasons.packed(_attributes(array))
        if reason is not None:
            self.contents.refuse(name, reason)

    def _check_index(self, name: str, index: Any, other: str, expected: Any) -> None:
        """Refuse table ``name`` if its index is not ``expected``, the index of table ``other``."""
        if len(index) != len(expected) or index.equals(expected):
            return
        row = int(np.flatnonzero(np.asarray(index != expected))[0])
        self.contents.refuse(
            name,
            f"has a different index than {other}: row {row} is {index[row]}, expected "
            f"{expected[row]}. Put the rows in one order, {name}.loc[{other}.index], or pass "
            ".to_numpy() if the rows are paired by position.",
        )

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        array, dtype = self._arrays[name], self.contents.specs[name][1]
        if not array.shape:
            yield np.asarray(array)
            return
        for first in range(start, array.shape[0], rows):
            block = native_text(read_rows(name, array, first, first + rows))
            yield block.astype(dtype) if block.dtype.kind == "V" else block


def _attributes(array: Any) -> Mapping[str, Any]:
    """Return the attributes of a Zarr or HDF5 array; {} for an array without attributes."""
    attributes = getattr(array, "attrs", None)
    if isinstance(array, np.ndarray) or attributes is None:
        return {}
    try:
        return dict(attributes)
    except (TypeError, ValueError):
        return {}
