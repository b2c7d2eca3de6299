"""The schema of an ingest: which array of a source is a modality, a side array or an attribute.

Options can name the arrays. Otherwise, names, shapes and dtypes decide on the roles. A side array
has one value or row per pair, such as ids or labels, and is stored beside the modalities. An
attribute is a small array of another length, such as the names of the labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.inference import (
    infer_modalities,
    listing,
    renamed,
    warn_of_labels,
)
from srch_dist.ingest.naming import RESERVED, is_label_name, side_name, store_name
from srch_dist.ingest.sources.base import Specs
from srch_dist.kernels.types import Array
from srch_dist.storage.feature_store import check_name

TEXT_KINDS = "UT"
PLAIN_KINDS = "fiub" + TEXT_KINDS
MAX_ATTRIBUTE_VALUES = 100_000


class UnequalRowsError(InputError):
    """Modalities with unequal numbers of rows.

    Attributes
    ----------
    arrays : names of the modalities' arrays in the source.
    hint : a sentence that suggests transposing the arrays, or "".
    """

    def __init__(self, message: str, arrays: Sequence[str], hint: str) -> None:
        super().__init__(message)
        self.arrays, self.hint = arrays, hint


@dataclass(frozen=True)
class Schema:
    """Role of each array of a source; mappings are from store name to the name in the source.

    Attributes
    ----------
    modalities : paired features (n, d_g).
    side : other arrays of n rows.
    attributes : small arrays of other lengths.
    rows : number n of rows.
    left_out : for each array without a role, the reason, by the array's name in the source. An
        array that an option names always has a role.
    warnings : messages about roles that may be a mistake.
    """

    modalities: Mapping[str, str]
    side: Mapping[str, str]
    attributes: Mapping[str, str]
    rows: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def rowwise(self) -> dict[str, str]:
        """Return all arrays of n rows, modalities first."""
        return {**self.modalities, **self.side}


def choose_schema(
    specs: Specs,
    modalities: Sequence[str] | None = None,
    side: Sequence[str] | None = None,
    first_rows: Callable[[str], Array | None] = lambda _: None,
) -> Schema:
    """Assign a role to each array of a source.

    Parameters
    ----------
    specs : (shape, dtype) of every array of the source.
    modalities : modalities, as ``array`` or ``name=array``. If None, all 2-D floating-point arrays
        are modalities, and an array that looks like labels or like a part of a split is an error.
    side : side arrays, in the same form. If None, all other arrays of n rows are side arrays, and
        arrays of other lengths are attributes.
    first_rows : function that reads the first rows of an array. Returns None for unreadable rows.

    Raises
    ------
    InputError : a named array does not exist, or the arrays cannot be paired features.
    """
    warnings: list[str] = []
    if modalities is None:
        chosen = infer_modalities(specs, first_rows)
    else:
        chosen = _parse_names(specs, modalities)
        warnings += warn_of_labels(chosen, first_rows)
    _check_modalities(specs, chosen)
    rows = _paired_rows(specs, chosen)
    columns = {specs[array][0][1] for array in chosen.values()}
    if len(columns) == 1 and max(columns) > rows:
        line = ",".join(f"{name}={array}.T" for name, array in chosen.items())
        warnings.append(
            f"the modalities have {rows} rows of {max(columns)} dimensions; if the arrays have "
            f"shape (dimensions, rows), type --modalities {line}"
        )
    others = {name: spec for name, spec in specs.items() if name not in chosen.values()}
    if side is not None:
        named = _parse_names(specs, side)
        _check_side(specs, {**chosen, **named}, named, rows)
        return Schema(chosen, named, {}, rows, {}, warnings)
    left_out: dict[str, str] = {}
    for name, (shape, dtype) in list(others.items()):
        reason = _unfit(name, shape, dtype, rows, modalities is not None)
        if reason:
            left_out[name] = reason
            del others[name]
    inferred = _infer_side(others, set(chosen) | set(others), rows)
    _check_side(specs, {**chosen, **inferred}, inferred, rows)
    attributes = {name: name for name in others if name not in inferred.values()}
    for name in attributes:
        check_name(name)
    if "labels" not in inferred:
        warnings += [
            f"{array} looks like labels; to score MAP with them, add --side labels={array}"
            for array in inferred.values()
            if is_label_name(array)
        ]
    return Schema(chosen, inferred, attributes, rows, left_out, warnings)


def _unfit(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], rows: int, named: bool
) -> str | None:
    """Explain why an array that no option names is left out; None if it has a role.

    ``named`` says whether an option names the modalities. If False, raises InputError for an array
    that has a reserved name, such as ``labels``, but not ``rows`` rows.
    """
    # A reserved name with another number of rows is a mistake, not an attribute.
    known, rowwise = name in RESERVED, shape[:1] == (rows,)
    if known and not rowwise:
        if not named:
            raise InputError(f"{name} has shape {shape}, expected {rows} rows")
        return f"it has shape {shape}, not {rows} rows"
    if dtype.kind not in PLAIN_KINDS and not (known and not named):
        return f"it is {dtype}, neither numbers nor text"
    if not named:
        return None
    if not rowwise and math.prod(shape) > MAX_ATTRIBUTE_VALUES:
        return f"it has shape {shape}, expected {rows} rows or a small attribute"
    try:
        check_name(name)
    except InputError as error:
        return str(error)
    return None


def _parse_names(specs: Specs, items: Sequence[str]) -> dict[str, str]:
    """Parse items ``array`` and ``name=array``; return a mapping from store name to source name."""
    chosen: dict[str, str] = {}
    for item in items:
        name, _, array = item.partition("=")
        array = array or name
        if name == array and ("+" in name or name.endswith(".T")):
            name = store_name(name.partition("+")[0].removesuffix(".T"))
        if array not in specs:
            raise InputError(f"there is no array {array!r}; the source has: {listing(specs)}")
        if chosen.get(name, array) != array:
            raise InputError(
                f"two arrays are named {name}: {chosen[name]} and {array}. Choose one of them."
            )
        chosen[name] = array
    return chosen


def _infer_side(others: Specs, taken: set[str], rows: int) -> dict[str, str]:
    arrays = [name for name, (shape, _) in others.items() if shape[:1] == (rows,)]
    return renamed(arrays, lambda array: side_name(array) or array, taken)


def _check_modalities(specs: Specs, chosen: Mapping[str, str]) -> None:
    for name, array in chosen.items():
        shape, dtype = specs[array]
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise InputError(f"{name} is {dtype}; a modality must be an array of real numbers")
        if len(shape) != 2 or shape[1] == 0:
            raise InputError(f"{name} has shape {shape}; a modality must be (rows, dimensions)")
    if len(chosen) < 2 or len(set(chosen.values())) < 2:
        raise InputError(
            f"at least two modalities are needed, found {next(iter(chosen), 'none')}. Name 2-D "
            f"arrays with --modalities a,b; the source has: {listing(specs)}"
        )


def _paired_rows(specs: Specs, chosen: Mapping[str, str]) -> int:
    """Return the number n of rows; raise `UnequalRowsError` for modalities of unequal length."""
    counts = {name: specs[array][0][0] for name, array in chosen.items()}
    if len(set(counts.values())) > 1:
        unequal = ", ".join(f"{name} {count}" for name, count in counts.items())
        message = f"modalities are paired by row, but have unequal numbers of rows: {unequal}"
        hint = ""
        columns = {specs[array][0][1] for array in chosen.values()}
        if len(columns) == 1 and max(columns) > max(counts.values()):
            line = ",".join(f"{name}={array}.T" for name, array in chosen.items())
            hint = (
                f" If the arrays have shape (dimensions, rows), with {max(columns)} rows, "
                f"type --modalities {line}"
            )
        raise UnequalRowsError(message, list(chosen.values()), hint)
    rows = next(iter(counts.values()))
    if rows < 2:
        raise InputError(
            f"the modalities have {'no rows' if rows == 0 else 'one row'}; at least two are needed"
        )
    return rows


def _check_side(
    specs: Specs, rowwise: Mapping[str, str], side: Mapping[str, str], rows: int
) -> None:
    for name in rowwise:
        check_name(name)
    for name, array in side.items():
        shape, dtype = specs[array]
        if shape[:1] != (rows,):
            raise InputError(f"{name} has shape {shape}, expected {rows} rows")
        if dtype.kind not in PLAIN_KINDS:
            raise InputError(f"{name} is {dtype}. Save it as numbers or as text.")
    if "labels" in side:
        _check_labels(*specs[side["labels"]])
    if "split" in side:
        shape, dtype = specs[side["split"]]
        # MATLAB's numbers are doubles; the values are checked when they are read.
        if dtype.kind not in "iubf" or len(shape) != 1:
            raise InputError(
                f"split has shape {shape} of {dtype}, expected one integer per row: 0 to train on, "
                "1 for queries"
            )


def _check_labels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise InputError unless labels are class numbers or names (n,), or multi-hot (n, classes)."""
    text = dtype.kind in TEXT_KINDS
    if len(shape) == 1 or (len(shape) == 2 and shape[1] > 1 and not text):
        return
    raise InputError(
        f"labels has shape {shape} of {dtype}, expected one class per row, (n,), or multi-hot "
        "numbers, (n, classes)"
    )
