"""Arrays in memory or on disk as a source: NumPy, Dask, Zarr, HDF5 datasets, tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.contents import TEXT, ListedSource, native_text
from srch_dist.kernels.types import Array

# Names of dtypes of the package ml_dtypes. NumPy gives them the kind of untyped bytes.
_SMALL_FLOATS = ("bfloat16", "float8", "float6", "float4")


class ArraySource(ListedSource):
    """A `Source` of arrays by name: anything with a shape, a dtype and row slices."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        super().__init__()
        self._arrays: dict[str, Any] = {}
        for name, values in arrays.items():
            if hasattr(values, "tocsr"):  # SciPy's sparse matrices have no row slices of numbers
                self.contents.refuse(name, reasons.sparse(f"{name}.toarray()"))
                continue
            array = _as_array(name, values)
            if any(not isinstance(size, int | np.integer) for size in array.shape):
                raise InputError(
                    f"{name} has shape {array.shape}: its number of rows is unknown. Call "
                    "compute_chunk_sizes() on the Dask array first."
                )
            self._arrays[name] = array
            shape = tuple(int(size) for size in array.shape)
            dtype = np.dtype(array.dtype)
            # Not by name alone: "float64" also starts with "float6".
            small = dtype.kind == "V" and str(dtype).startswith(_SMALL_FLOATS)
            self.contents.add(name, shape, np.dtype(np.float32) if small else dtype)
            reason = reasons.packed(_attributes(array))
            if reason is not None:
                self.contents.refuse(name, reason)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start`` in blocks of ``rows`` rows."""
        array, dtype = self._arrays[name], self.contents.specs[name][1]
        if not array.shape:
            yield np.asarray(array)
            return
        for first in range(start, array.shape[0], rows):
            block = native_text(np.asarray(array[first : first + rows]))
            yield block.astype(dtype) if block.dtype.kind == "V" else block


def _as_array(name: str, values: Any) -> Any:
    """Return values unchanged if NumPy knows their dtype, else convert them to a NumPy array."""
    dtype = getattr(values, "dtype", None)
    if hasattr(values, "shape") and dtype is not None:
        try:
            np.dtype(dtype)
        except TypeError:  # a tensor of another library
            pass
        else:
            if not isinstance(values, np.ndarray) or values.dtype != object:
                return values
    try:
        array = np.asarray(values)
        texts = array.dtype == object and all(isinstance(item, str) for item in array.ravel())
        return array.astype(TEXT) if texts else array
    except Exception as error:  # other libraries raise many kinds
        raise InputError(
            f"{name} is a {type(values).__name__} that NumPy cannot convert: {error}. Pass a NumPy "
            "array."
        ) from None


def _attributes(array: Any) -> Mapping[str, Any]:
    """Return the attributes of a Zarr or HDF5 array; {} for an array without attributes."""
    attributes = getattr(array, "attrs", None)
    if isinstance(array, np.ndarray) or attributes is None:
        return {}
    try:
        return dict(attributes)
    except (TypeError, ValueError):
        return {}
