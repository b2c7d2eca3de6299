"""Rows are pairs where the ids of every modality say so; elsewhere by their place alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.ingest.schema import Layout
from srch_dist.ingest.sources.base import Source, Specs

_BLOCK_ROWS = 1 << 16
_SHOWN = 5
# Ids of more rows than this are not held in memory to be listed.
_LISTED_ROWS = 10_000_000
_ID = re.compile(r"[_.-](ids?|keys?)$|^(ids?|keys?)[_.-]")


def id_arrays(specs: Specs) -> list[str]:
    """Arrays that hold an id a row, such as ``ids``, ``key``, ``image_ids`` and ``id_text``."""
    return [
        name
        for name, (shape, dtype) in specs.items()
        if len(shape) == 1
        and dtype.kind in "iuUT"
        and (name.lower() in ("id", "ids", "key", "keys") or _ID.search(name.lower()))
    ]


def check_ids(label: str, source: Source, specs: Specs, layout: Layout) -> list[str]:
    """Compare all id arrays row by row and return their names in the source, called ``label``.

    Only those count that are called ``ids`` or by a modality (``image_ids``, ``text_id``).

    Raises
    ------
    InputError : ids differ; the message lists rows and says whether only their order differs.
    """
    names = [
        name
        for name in id_arrays(specs)
        if specs[name][0] == (layout.rows,) and _counts(name, layout)
    ]
    for other in names[1:]:
        wrong: list[str] = []
        count, start = 0, 0
        pairs = zip(
            source.blocks(names[0], _BLOCK_ROWS), source.blocks(other, _BLOCK_ROWS), strict=True
        )
        for left, right in pairs:
            left, right = _comparable(left, right)
            rows = np.flatnonzero(left != right)
            count += len(rows)
            for row in rows[: _SHOWN - len(wrong)]:
                wrong.append(f"row {start + row}: {left[row]} and {right[row]}")
            start += len(left)
        if count:
            raise InputError(
                f"{label}: {names[0]} and {other} differ in {count} of {layout.rows} rows ("
                f"{'; '.join(wrong)}{'; …' if count > len(wrong) else ''}); bring the modalities "
                "into one order by id, and leave out rows that one of them lacks"
            )
    return names


def explain_unequal(source: Source, specs: Specs, arrays: Sequence[str]) -> str:
    """Which ids one modality has and another lacks, where both have ids; else an empty text."""
    ids = {
        array: name
        for array in arrays
        for name in id_arrays(specs)
        if _stem(name) == _stem(array) and specs[name][0] == specs[array][0][:1]
    }
    if len(ids) < 2 or max(specs[name][0][0] for name in ids.values()) > _LISTED_ROWS:
        return ""
    (first, left), (second, right) = list(ids.items())[:2]
    known = [
        {str(value) for block in source.blocks(name, _BLOCK_ROWS) for value in block.tolist()}
        for name in (left, right)
    ]
    parts = []
    for name, more, less in ((first, known[0], known[1]), (second, known[1], known[0])):
        only = sorted(more - less)
        if only:
            shown = ", ".join(only[:_SHOWN]) + (", …" if len(only) > _SHOWN else "")
            parts.append(f"{len(only)} ids are in {name} alone: {shown}")
    return "".join(f"; {part}" for part in parts)


def _counts(name: str, layout: Layout) -> bool:
    plain = name.lower() in ("id", "ids", "key", "keys")
    stems = {_stem(array) for array in layout.modalities.values()} | set(layout.modalities)
    return plain or _stem(name) in stems


def _stem(name: str) -> str:
    """The modality in an array's name: image_ids and image_embedding are both of image."""
    return _ID.sub(
        "", re.sub(r"[_.-](embs?|embeddings?|features?|feats?|vectors?|vecs?)$", "", name)
    )


def _comparable(left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ids as numbers where both are, else as text."""
    if left.dtype.kind in "iu" and right.dtype.kind in "iu":
        return left, right
    text = np.dtypes.StringDType()
    return left.astype(text), right.astype(text)
