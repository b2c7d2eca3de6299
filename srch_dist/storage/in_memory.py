"""Convert the arrays of Python callers to arrays that NumPy can read, or raise InputError.

Only this module handles sparse matrices, tensors, tables, columns and lists. The module
recognises the objects of other libraries by their methods. It imports only NumPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.kernels.types import Array

_TEXT = np.dtypes.StringDType()
_NUMBERS = (int, float, np.number, np.bool_)


def as_array(name: str, values: Any) -> Any:
    """Convert values to an array that has a shape, a NumPy dtype, and row slices.

    NumPy, Dask, Zarr and HDF5 arrays are returned unchanged. Tables of numbers, columns, tensors
    and nested lists are converted.

    Parameters
    ----------
    name : name of the array in messages.

    Raises
    ------
    InputError : the values are sparse or ragged, a value is missing, or the values are of a type
        other than numbers and text.
    """
    if type(values) is np.ndarray and not values.dtype.hasobject:  # the usual case, for queries
        return values
    _refuse_lazy_and_sparse(name, values)
    columns = _columns(values)
    if columns is not None:
        return _from_table(name, columns)
    if hasattr(values, "to_numpy") and (hasattr(values, "to_list") or hasattr(values, "to_pylist")):
        return _from_column(name, values)
    dtype = getattr(values, "dtype", None)
    if hasattr(values, "shape") and dtype is not None:
        try:
            known = np.dtype(dtype)
        except TypeError:  # a tensor of another library
            pass
        else:
            if not isinstance(values, np.ndarray) or not known.hasobject:
                return _unmasked(name, values, 0)
    if isinstance(values, list | tuple):
        return _from_list(name, values)
    array = _to_numpy(name, values)
    return _from_objects(name, array, type(values)) if array.dtype == object else array


def read_rows(name: str, array: Any, start: int, stop: int) -> Array:
    """Read rows ``start`` to ``stop`` - 1 of an array from `as_array`, as a NumPy array."""
    rows = array[start:stop]
    if hasattr(rows, "compute"):  # Dask: as NumPy, its masked arrays would lose their mask
        rows = rows.compute()
    return np.asarray(_to_numpy(name, _unmasked(name, rows, start)))


def index_of(values: Any) -> Any:
    """Return the index of a pandas table or column.

    Returns None if the index is 0, 1, 2, …, or if ``values`` are not from pandas.
    """
    index = getattr(values, "index", None) if hasattr(values, "iloc") else None
    if index is None or (len(index) and np.array_equal(index, np.arange(len(index)))):
        return None
    return index


def _refuse_lazy_and_sparse(name: str, values: Any) -> None:
    chunk = getattr(values, "_meta", values)  # a Dask array has an empty chunk in _meta
    torch = str(getattr(values, "layout", "")).startswith("torch.sparse")
    if torch or any(hasattr(chunk, method) for method in ("tocsr", "tocoo", "todense")):
        method = next((m for m in ("toarray", "todense") if hasattr(chunk, m)), "to_dense")
        dense = f"{name}.{method}()"
        if chunk is not values:
            dense = f"{name}.map_blocks(lambda block: block.{method}())"
        raise InputError(
            f"{name} is a sparse matrix. Pass a dense array, {dense}, or reduce its dimensions: "
            f"sklearn.decomposition.TruncatedSVD(256).fit_transform({name})."
        )
    kind, remedy = type(values).__name__, ""
    if hasattr(values, "to_dask_array"):
        kind, remedy = f"Dask {kind}", f"{name}.to_dask_array(lengths=True)"
    elif hasattr(values, "collect_schema") and not hasattr(values, "get_columns"):
        remedy = f"{name}.collect()"
    if remedy:
        raise InputError(f"{name} is a {kind}. Pass its values: {remedy}.")


def _columns(values: Any) -> list[tuple[Any, Any]] | None:
    """List (name, column) of a pandas, Polars or Arrow table; return None for other values."""
    if hasattr(values, "iloc") and hasattr(values, "columns"):
        return [(key, values.iloc[:, place]) for place, key in enumerate(values.columns)]
    if hasattr(values, "get_columns"):
        return [(column.name, column) for column in values.get_columns()]
    if hasattr(values, "column_names") and hasattr(values, "column"):
        return [(key, values.column(place)) for place, key in enumerate(values.column_names)]
    return None


def _from_table(name: str, columns: Sequence[tuple[Any, Any]]) -> Array:
    """Convert the columns of a table to a matrix (rows, columns); refuse columns of text."""
    arrays = []
    for key, column in columns:
        array = _from_column(f"{name} column {key!r}", column)
        if array.ndim != 1 or array.dtype.kind not in "fiub":
            kind = "text" if array.dtype.kind in "UT" else f"{array.dtype} {array.shape}"
            raise InputError(
                f"{name} column {key!r} is {kind}; every column of a table must hold numbers. "
                "Drop the column, or pass the other columns."
            )
        arrays.append(array)
    if not arrays:
        raise InputError(f"{name} is a table without columns. Pass the columns of numbers.")
    dtype = np.result_type(*arrays)
    for (key, _), array in zip(columns, arrays, strict=True):
        if array.dtype.kind in "iu" and dtype.kind == "f":
            wrong = np.flatnonzero(array.astype(dtype).astype(object) != array.astype(object))
            if len(wrong):
                raise InputError(
                    f"{name} column {key!r} row {wrong[0]} is {array[wrong[0]]}, which {dtype}, "
                    "the type of all columns, cannot hold. Drop the column if it is an id."
                )
    return np.column_stack([array.astype(dtype, copy=False) for array in arrays])


def _from_column(name: str, column: Any) -> Array:
    """Convert a column of pandas, Polars or Arrow; raise InputError for a missing value."""
    arrow = hasattr(column, "to_pylist")
    if arrow or hasattr(column, "is_null"):
        missing = np.asarray(column.is_null())
    elif isinstance(column.dtype, np.dtype) and column.dtype != object:
        missing = np.zeros(0, bool)  # NaN is refused where modalities are checked
    else:
        missing = np.asarray(column.isna())
    if missing.any():
        raise InputError(_missing(name, int(np.flatnonzero(missing)[0])))
    array = np.asarray(column.to_numpy(zero_copy_only=False) if arrow else column.to_numpy())
    return _from_objects(name, array, type(column)) if array.dtype == object else array


def _from_list(name: str, values: Sequence[Any]) -> Array:
    """Convert a nested list of numbers or text."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError):  # ragged, or rows that are tensors
        array = _as_objects(values)
    if array.dtype == object:
        return _from_objects(name, array, type(values))
    if array.ndim == 1:
        # NumPy writes numbers beside text as text, and rounds integers of mixed signs.
        kinds = [isinstance(value, str | bytes) for value in values]
        if array.dtype.kind in "US" and not all(kinds):
            row = kinds.index(not kinds[0])
            raise InputError(
                f"{name} row {row} is {values[row]!r}, but row 0 is {values[0]!r}. Pass numbers "
                "or text, not both."
            )
        if array.dtype.kind == "f" and all(isinstance(value, int | np.integer) for value in values):
            return _large_integers(name, values)
    return array


def _from_objects(name: str, array: Array, kind: type) -> Array:
    """Convert an array of Python objects: numbers, texts, or rows with equal numbers of values.

    ``kind`` is the caller's type, for messages.
    """
    if array.ndim == 0:
        raise InputError(
            f"{name} is a {kind.__name__}. Pass an array (rows, dimensions) of numbers, or one "
            "number or text per row."
        )
    flat = array.ravel()
    if all(isinstance(value, str) for value in flat):
        return array.astype(_TEXT)
    width = max(1, flat.size // max(1, len(array)))
    for place, value in enumerate(flat):
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            raise InputError(_missing(name, place // width))
    if all(isinstance(value, _NUMBERS) for value in flat):
        numbers = np.array(array.tolist())
        whole = array.ndim == 1 and all(isinstance(value, int | np.integer) for value in flat)
        if whole and numbers.dtype.kind in "fO":
            return _large_integers(name, array.tolist())
        if numbers.dtype == object:
            place = max(range(len(flat)), key=lambda place: abs(flat[place]))
            raise InputError(
                f"{name} row {place // width} holds {flat[place]}, which needs more than 64 bits. "
                "Pass smaller numbers."
            )
        return numbers
    if array.ndim == 1 and all(_is_row(value) for value in flat):
        return _from_rows(name, list(flat))
    odd = [not isinstance(value, (*_NUMBERS, str)) for value in flat]
    if not any(odd):  # numbers and text
        odd = [isinstance(value, str) != isinstance(flat[0], str) for value in flat]
    place = odd.index(True)
    raise InputError(
        f"{name} row {place // width} holds a {type(flat[place]).__name__}. Pass numbers, or text, "
        "in every row."
    )


def _from_rows(name: str, rows: Sequence[Any]) -> Array:
    """Stack rows (lists, arrays or tensors) into one array; refuse rows of unequal shapes."""
    arrays = [
        _from_list(f"{name} row {place}:", row)
        if isinstance(row, list | tuple)
        else _to_numpy(name, row)
        for place, row in enumerate(rows)
    ]
    usual = Counter(array.shape for array in arrays).most_common(1)[0][0]
    first = next(place for place, array in enumerate(arrays) if array.shape == usual)
    for place, array in enumerate(arrays):
        if array.shape != usual:
            raise InputError(
                f"{name} row {place} has {_counted(array.shape)}, expected {_counted(usual)} as in "
                f"row {first}. Give every row the same number of values."
            )
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name} row {place} is {array.dtype}. Pass numbers in every row.")
    return np.stack(arrays)


def _to_numpy(name: str, values: Any) -> Array:
    """Convert an array of another library; raise InputError if NumPy cannot convert it."""
    try:
        return np.asarray(values)
    except Exception as error:  # other libraries raise many kinds
        torch = type(values).__module__.partition(".")[0] == "torch"
        hint = f"{name}.detach().cpu().float().numpy()" if torch else "a NumPy array"
        raise InputError(
            f"{name} is a {type(values).__name__} that NumPy cannot convert: {error}. Pass {hint}."
        ) from None


def _unmasked(name: str, values: Any, start: int) -> Any:
    """Return values without their mask; raise InputError if any value is masked (missing).

    ``start`` is the row number of the first row, for the message.
    """
    if isinstance(values, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(values).reshape(len(values), -1).any(axis=1)
        if masked.any():
            raise InputError(_missing(name, start + int(np.flatnonzero(masked)[0])))
        return values.data
    return values


def _as_objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) or (
        hasattr(value, "__array__") and len(getattr(value, "shape", ())) > 0
    )


def _counted(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} values" if len(shape) == 1 else f"shape {shape}"


def _missing(name: str, row: int) -> str:
    return (
        f"{name} row {row}: missing value. Fill in a value, or remove the row from every modality."
    )


def _large_integers(name: str, values: Sequence[int]) -> Array:
    """Convert integers above 2^63 to uint64; NumPy would round some of them to float64."""
    if min(values) >= 0 and max(values) < 2**64:
        return np.array(values, np.uint64)
    row = max(range(len(values)), key=lambda place: abs(int(values[place])))
    raise InputError(
        f"{name} row {row} is {values[row]}: no integer type of 64 bits holds all rows. Pass the "
        "values as text."
    )
