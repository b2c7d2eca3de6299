"""Reasons why an array is refused, and what to do; every format uses these texts.

A message is the name of the array and its reason: "text" + " is a sparse matrix. Save it …".
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.kernels.types import Array

OBJECTS = (
    "is an object array. Only pickle can read object arrays, and pickle can run code of the file. "
    "Save the array as numbers or as text: np.stack(...) or .astype(str)."
)
BYTES = "is an array of bytes. Save it as text: .astype(str)."
NO_VALUES = "has no values in any row. Write values, or remove the column from the source."
# Attributes of the CF conventions: a stored number x means x * scale_factor + add_offset. With the
# numbers here, x means x.
_PACKED = {"scale_factor": 1, "add_offset": 0}
_FILL = ("_FillValue", "missing_value")
# Bit patterns, without the sign bit, of bfloat16 numbers of magnitude 2^-27 to 2^14.
_SMALLEST_PATTERN, _LARGEST_PATTERN = 0x3200, 0x46FF
_PLAUSIBLE_SHARE = 0.99


def sparse(line: str) -> str:
    """Return the reason for a sparse matrix; ``line`` is Python code that makes the array dense."""
    return f"is a sparse matrix. Save it as a dense array: {line}"


def untyped_bfloat16(name: str) -> str:
    """Return the reason for an array of void dtype V2, which .npy files use for bfloat16."""
    return (
        "has 2 bytes per value without a type; NumPy saves bfloat16 this way. Save it as float32: "
        f"({name}.view('<u2').astype('<u4') << 16).view('<f4')."
    )


def missing_chunks(missing: int, wanted: int, fill: Any, hint: str = "") -> str:
    """Return the reason for an array that lacks ``missing`` of ``wanted`` chunks.

    Missing chunks read as the fill value ``fill``. ``hint`` is appended to the advice.
    """
    return (
        f"lacks {missing} of {wanted} chunks; missing chunks would read as {fill}. Write the "
        f"missing chunks{hint}."
    )


def left_out_chunks(missing: int, wanted: int, fill: Any) -> str:
    """Return the reason of `missing_chunks`, with a hint for Zarr arrays.

    By default, Zarr does not store chunks that hold only the fill value.
    """
    hint = f"; write_empty_chunks=True also writes chunks that hold only {fill}"
    return missing_chunks(missing, wanted, fill, hint)


def unequal_rows(row: int, length: int, expected: int, first: int) -> str:
    """Return the reason for a list in ``row`` with ``length`` values instead of ``expected``.

    ``first`` is the first row that has ``expected`` values.
    """
    return (
        f"row {row}: {length} values, expected {expected} as in row {first}. Give every row the "
        "same number of values."
    )


def missing_value(row: int) -> str:
    """Return the reason for a null in a row of numbers."""
    return f"row {row}: missing value. Fill it, or remove the row from every modality."


def missing_values(count: int, rows: int) -> str:
    """Return the reason for ``count`` nulls in a column of ``rows`` numbers."""
    return f"lacks {count} of {rows} values. Fill the missing values, or remove the column."


def packed(attributes: Mapping[str, Any]) -> str | None:
    """Return the reason if ``attributes`` have a scale or offset of packed numbers; else None."""
    found = {
        name: attributes[name]
        for name, neutral in _PACKED.items()
        if name in attributes and not _equals(attributes[name], neutral)
    }
    if not found:
        return None
    listing = ", ".join(f"{name}={_plain(value)}" for name, value in found.items())
    return (
        f"holds packed numbers: its attributes {listing} turn stored numbers into values. Save the "
        "values, stored * scale_factor + add_offset, as float32 without these attributes."
    )


def fill_values(attributes: Mapping[str, Any]) -> list[float]:
    """List the finite numbers that an array's attributes declare as missing values."""
    found = (np.ravel(_decoded(attributes[name])) for name in _FILL if name in attributes)
    numbers = [value for values in found if values.dtype.kind in "fiu" for value in values.tolist()]
    return [value for value in numbers if np.isfinite(value)]


def _decoded(value: Any) -> Any:
    """Decode base64 of a double, as xarray writes attributes in Zarr v3; else return ``value``."""
    if not isinstance(value, str):
        return value
    try:
        return struct.unpack("<d", base64.b64decode(value, validate=True))[0]
    except (ValueError, struct.error):
        return value


def refuse_fill(label: str, fills: list[float], block: Array, first: int) -> None:
    """Raise InputError if a block contains a value that is declared as missing.

    ``first`` is the row number of the block's first row, for the message.
    """
    for fill in fills:
        rows = np.flatnonzero((block == fill).reshape(len(block), -1).any(axis=1))
        if len(rows):
            raise InputError(
                f"{label} row {first + rows[0]}: missing value ({fill}, which the attribute "
                "_FillValue or missing_value declares as missing). Fill it, remove the row from "
                "every modality, or remove the attribute."
            )


def converted(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert values to a dtype; raise InputError for an integer that the dtype cannot hold."""
    result = values.astype(dtype)
    if (
        values.dtype.kind in "iu"
        and dtype.kind == "f"
        and not np.array_equal(values, result.astype(values.dtype))
    ):
        raise InputError(
            f"whole numbers up to {np.abs(values).max()} are mixed with floating-point numbers of "
            f"another file, and {dtype} cannot hold these whole numbers exactly. Save all files "
            "with the same type."
        )
    return result


def refuse_bit_patterns(label: str, name: str, block: Array) -> None:
    """Raise InputError for uint16 numbers of a modality that look like bfloat16 bit patterns."""
    if block.dtype.kind != "u" or block.dtype.itemsize != 2:
        return
    sizes = block[block != 0] & 0x7FFF
    plausible = np.count_nonzero((sizes >= _SMALLEST_PATTERN) & (sizes <= _LARGEST_PATTERN))
    if len(sizes) and plausible >= _PLAUSIBLE_SHARE * len(sizes):
        raise InputError(
            f"{label}: {name} is uint16, and its values look like the bit patterns of bfloat16. "
            f"Save it as float32: ({name}.astype('<u4') << 16).view('<f4'). If the values are "
            "whole numbers, save them as int32."
        )


def _equals(value: Any, neutral: int) -> bool:
    try:
        return bool(np.all(np.asarray(value, float) == neutral))
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return array.ravel()[0].item() if array.size == 1 else array.tolist()
