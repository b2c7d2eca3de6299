"""Check that rows are pairs: ids of the modalities, where the source has them, must agree."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.schema import Schema, without_feature_suffix
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.kernels.types import Array

_BLOCK_ROWS = 1 << 16
# Ids that an error message lists before it says "…".
_LISTED = 5
# Ids of more rows than this are not loaded into memory to explain an error.
_MAX_EXPLAINED_ROWS = 10_000_000
_PLAIN_NAMES = ("id", "ids", "key", "keys")
_ID_AFFIX = re.compile(r"[_.-](ids?|keys?)$|^(ids?|keys?)[_.-]")


def id_arrays(specs: Specs) -> list[str]:
    """Arrays with an id per row, such as ``ids``, ``key``, ``image_ids`` and ``id_text``."""
    return [
        name
        for name, (shape, dtype) in specs.items()
        if len(shape) == 1
        and dtype.kind in "iuUT"
        and (name.lower() in _PLAIN_NAMES or _ID_AFFIX.search(name.lower()))
    ]


def check_ids(label: str, source: Source, specs: Specs, schema: Schema) -> list[str]:
    """Compare all id arrays row by row, and return their names.

    An array counts if its name is ``ids`` or the like, or has a modality's name (``image_ids``,
    ``text_id``).

    Parameters
    ----------
    label : the source's name in messages.
    source, specs : the opened source and its arrays.
    schema : roles of the arrays.

    Raises
    ------
    InputError : ids differ; the message lists the first such rows.
    """
    names = [
        name
        for name in id_arrays(specs)
        if specs[name][0] == (schema.rows,) and _identifies_rows(name, schema)
    ]
    for other in names[1:]:
        examples: list[str] = []
        count, start = 0, 0
        pairs = zip(
            source.blocks(names[0], _BLOCK_ROWS), source.blocks(other, _BLOCK_ROWS), strict=True
        )
        for left, right in pairs:
            left, right = _comparable(left, right)
            rows = np.flatnonzero(left != right)
            count += len(rows)
            for row in rows[: _LISTED - len(examples)]:
                examples.append(f"row {start + row}: {left[row]} and {right[row]}")
            start += len(left)
        if count:
            listing = "; ".join(examples) + ("; …" if count > len(examples) else "")
            raise InputError(
                f"{label}: {names[0]} and {other} differ in {count} of {schema.rows} rows "
                f"({listing}). Sort the modalities by id, and remove ids that one of them lacks."
            )
    return names


def explain_unequal(source: Source, specs: Specs, arrays: Sequence[str]) -> str:
    """Which ids only one of the first two modalities has, as the end of an error message.

    Empty if the modalities have no ids, or too many to load.
    """
    ids = {
        array: name
        for array in arrays
        for name in id_arrays(specs)
        if _stem(name) == _stem(array) and specs[name][0] == specs[array][0][:1]
    }
    if len(ids) < 2 or max(specs[name][0][0] for name in ids.values()) > _MAX_EXPLAINED_ROWS:
        return ""
    (first, left), (second, right) = list(ids.items())[:2]
    left_ids, right_ids = (
        {str(value) for block in source.blocks(name, _BLOCK_ROWS) for value in block.tolist()}
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
    return name.lower() in _PLAIN_NAMES or _stem(name) in stems


def _stem(name: str) -> str:
    """The modality in an array's name: ``image`` of both image_ids and image_embedding."""
    return _ID_AFFIX.sub("", without_feature_suffix(name))


def _comparable(left: Array, right: Array) -> tuple[Array, Array]:
    """Ids as numbers if both are, else as text."""
    if left.dtype.kind in "iu" and right.dtype.kind in "iu":
        return left, right
    text = np.dtypes.StringDType()
    return left.astype(text), right.astype(text)
