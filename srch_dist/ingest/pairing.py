"""Check that the modalities have the same id in each row, if the source has ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.inference import without_feature_suffix
from srch_dist.ingest.naming import side_name
from srch_dist.ingest.schema import TEXT_KINDS, Schema
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.ingest.sources.contents import TEXT, native_text
from srch_dist.kernels.types import Array

_BLOCK_ROWS = 1 << 16
# Maximum number of ids that an error message lists.
_LISTED = 5
# Maximum number of ids that are loaded into memory to explain an error.
_MAX_EXPLAINED_ROWS = 10_000_000
# Integers below these values are exact in floating-point numbers of 2, 4 and 8 bytes.
_EXACT = {2: 2**11, 4: 2**24, 8: 2**53}
_ID_AFFIX = re.compile(r"[_.-](ids?|keys?)$|^(ids?|keys?)[_.-]")


def id_arrays(specs: Specs) -> list[str]:
    """List the arrays with an id per row, such as ``ids``, ``key``, ``image_ids``, ``id_text``."""
    return [
        name
        for name, (shape, dtype) in specs.items()
        if is_column(shape) and dtype.kind in "iufUT" and _is_id_name(name)
    ]


def is_column(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape has one value per row: (n,) or (n, 1)."""
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _is_id_name(name: str) -> bool:
    return side_name(name) == "ids" or _ID_AFFIX.search(name.lower()) is not None


@dataclass(frozen=True)
class Pairing:
    """Result of the comparison of a source's id arrays.

    Attributes
    ----------
    compared : id arrays that agree in every row; at most one if no two arrays could be compared.
    warnings : for each id array that cannot be compared, a text with its name and the reason.
    """

    compared: list[str]
    warnings: list[str]


def check_ids(label: str, source: Source, specs: Specs, schema: Schema) -> Pairing:
    """Compare all id arrays row by row.

    An id array has the name ``ids`` or a similar name, or its name contains a modality's name
    (``image_ids``, ``text_id``). Numbers of any type are compared by value. If one array has
    numbers and the other array has text, the text is parsed as numbers.

    Parameters
    ----------
    label : the source's name in messages.
    source, specs : the opened source and its arrays.
    schema : role of each array: modality, side array or attribute.

    Raises
    ------
    InputError : ids differ; the message lists the first rows that differ.
    """
    names, warnings = [], []
    for name, (shape, dtype) in specs.items():
        if not _is_id_name(name) or not _identifies_rows(name, schema):
            continue
        if name in id_arrays(specs) and shape[0] == schema.rows:
            names.append(name)
        else:
            warnings.append(f"{name} has shape {shape} of {dtype}, not one id per row")
    for name, why in {**source.skipped, **source.unreadable}.items():
        if _is_id_name(name) and _identifies_rows(name, schema):
            warnings.append(f"{name} is left out: {why}")
    # `_write_arrays` refuses a bad array that the store needs. Other bad arrays must not stop the
    # ingest.
    read = set(schema.rowwise.values())
    # The arrays of a group agree in every row. Those of two groups cannot be compared.
    groups: list[list[str]] = []
    for name in names:
        reasons: list[str] = []
        for group in groups:
            try:
                _compare(label, source, (group[0], name), schema.rows)
                group.append(name)
                break
            except _IncomparableError as reason:
                reasons.append(str(reason))
            except _DifferentIdsError:
                raise
            except InputError as error:
                if group[0] in read and name in read:
                    raise
                reasons.append(str(error))
        else:
            warnings += reasons
            groups.append([name])
    return Pairing(max(groups, key=len, default=[]), list(dict.fromkeys(warnings)))


class _IncomparableError(Exception):
    """Two id arrays cannot be compared, for example numbers with text that is no number."""


class _DifferentIdsError(InputError):
    """Two id arrays differ in some rows."""


def _compare(label: str, source: Source, names: tuple[str, str], rows: int) -> None:
    """Compare two id arrays; raise `_DifferentIdsError` if they differ in any row."""
    examples: list[str] = []
    count, start = 0, 0
    pairs = zip(*(source.blocks(name, _BLOCK_ROWS) for name in names), strict=True)
    for left, right in pairs:
        left, right = _comparable(names, left.reshape(len(left)), right.reshape(len(right)), start)
        different = np.flatnonzero(left != right)
        count += len(different)
        for row in different[: _LISTED - len(examples)]:
            examples.append(f"row {start + row}: {left[row]} and {right[row]}")
        start += len(left)
    if count:
        listing = "; ".join(examples) + ("; …" if count > len(examples) else "")
        raise _DifferentIdsError(
            f"{label}: {names[0]} and {names[1]} differ in {count} of {rows} rows "
            f"({listing}). Sort the rows of both arrays and of their modalities by id, and remove "
            "rows whose id only one of the arrays has."
        )


def explain_unequal(source: Source, specs: Specs, arrays: Sequence[str]) -> str:
    """List, for an error message, the ids that only one of the first two modalities has.

    Returns "" if fewer than two modalities have ids, or if there are too many ids to load.
    """
    ids = {
        array: name
        for array in arrays
        for name in id_arrays(specs)
        if _stem(name) == _stem(array) and specs[name][0][:1] == specs[array][0][:1]
    }
    if len(ids) < 2 or max(specs[name][0][0] for name in ids.values()) > _MAX_EXPLAINED_ROWS:
        return ""
    (first, left), (second, right) = list(ids.items())[:2]
    left_ids, right_ids = (
        {_plain(value) for block in source.blocks(name, _BLOCK_ROWS) for value in np.ravel(block)}
        for name in (left, right)
    )
    parts = []
    for name, extra in ((first, left_ids - right_ids), (second, right_ids - left_ids)):
        if extra:
            listing = ", ".join(sorted(extra)[:_LISTED]) + (", …" if len(extra) > _LISTED else "")
            ids_only = "1 id" if len(extra) == 1 else f"{len(extra)} ids"
            parts.append(f"{ids_only} only in {name}: {listing}")
    return "".join(f"; {part}" for part in parts)


def _identifies_rows(name: str, schema: Schema) -> bool:
    stems = {_stem(array) for array in schema.modalities.values()} | set(schema.modalities)
    return side_name(name) == "ids" or _stem(name) in stems


def _stem(name: str) -> str:
    """Extract the modality from an array's name: ``image`` for image_ids and image_embedding."""
    return _ID_AFFIX.sub("", without_feature_suffix(name))


def _plain(value: object) -> str:
    """Format an id as text; a floating-point number 7.0 becomes "7"."""
    return str(int(value)) if isinstance(value, np.floating) and value % 1 == 0 else str(value)


def _comparable(
    names: tuple[str, str], left: Array, right: Array, start: int
) -> tuple[Array, Array]:
    """Convert two blocks of ids: both to integers if a block has numbers, else both to text.

    ``start`` is the row number of the first row, for messages.
    """
    kinds = left.dtype.kind, right.dtype.kind
    if all(kind in TEXT_KINDS for kind in kinds):
        return native_text(left).astype(TEXT), native_text(right).astype(TEXT)
    return _whole_numbers(names[0], left, start), _whole_numbers(names[1], right, start)


def _whole_numbers(name: str, values: Array, start: int) -> Array:
    """Convert ids to integers; raise `_IncomparableError` for an id that is no exact integer."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":
        # Beyond 2^53, one double stands for several integers.
        exact = np.isfinite(values) & (np.abs(values) < _EXACT.get(values.dtype.itemsize, 2**53))
        invalid = np.flatnonzero(~(exact & (np.where(exact, values, 0) % 1 == 0)))
        if len(invalid):
            row = invalid[0]
            raise _IncomparableError(
                f"{name} row {start + row} is {values[row]}, which is not an exact integer"
            )
        return values.astype(np.int64)
    digits = [str(value).strip() for value in values]
    for row, text in enumerate(digits):
        if not (text.isascii() and text.removeprefix("-").isdecimal()):
            raise _IncomparableError(
                f"{name} row {start + row} is {text!r}, but the other ids are numbers"
            )
    return np.array([int(text) for text in digits], dtype=object)
