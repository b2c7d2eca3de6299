"""Which array of a source is which: told by option, or guessed from names, shapes and dtypes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources.base import Specs
from srch_dist.storage.feature_store import check_name

# These describe rows; of another length they are a mistake, not an attribute.
ROW_ARRAYS = ("labels", "split", "ids", "titles")
TEXT_KINDS = "UT"
_SIDE_KINDS = "fiub" + TEXT_KINDS
# What an embedding is called beside its modality: img_emb, text_embeddings, image.features.
_SUFFIX = re.compile(r"[_.-](embs?|embeddings?|features?|feats?|vectors?|vecs?)$")
_MODALITIES = {"img": "image", "images": "image", "txt": "text", "texts": "text"}
_SIDE = {
    **dict.fromkeys(("id", "key", "keys"), "ids"),
    **dict.fromkeys(("caption", "captions", "title"), "titles"),
    "label": "labels",
}


class UnequalRowsError(InputError):
    """Modalities of unequal rows; ``arrays`` are their names in the source."""

    def __init__(self, message: str, arrays: Sequence[str]) -> None:
        super().__init__(message)
        self.arrays = arrays


@dataclass(frozen=True)
class Layout:
    """What becomes of a source's arrays; both map a name in the store to one in the source.

    Attributes
    ----------
    modalities : the paired features. side : arrays of n rows beside them.
    attributes : small arrays of other lengths. rows : n.
    """

    modalities: Mapping[str, str]
    side: Mapping[str, str]
    attributes: Mapping[str, str]
    rows: int

    @property
    def rowwise(self) -> dict[str, str]:
        """All arrays of n rows, modalities first."""
        return {**self.modalities, **self.side}


def choose_layout(
    specs: Specs, modalities: Sequence[str] | None = None, side: Sequence[str] | None = None
) -> Layout:
    """Which arrays are modalities, which ride along and which become attributes.

    ``modalities`` and ``side`` name arrays as ``array`` or ``name=array``. Without them all 2-D
    floating-point arrays are modalities, and all other arrays of as many rows ride along.

    Raises
    ------
    InputError : what is named is not there, or the arrays cannot be paired features.
    """
    chosen = _guess_modalities(specs) if modalities is None else _told(specs, modalities)
    _check_modalities(specs, chosen)
    rows = _paired_rows(specs, chosen)
    others = {name: spec for name, spec in specs.items() if name not in chosen.values()}
    if side is not None:
        told = _told(specs, side)
        _check_side(specs, {**chosen, **told}, told, rows)
        return Layout(chosen, told, {}, rows)
    for name in ROW_ARRAYS:
        if name in specs and specs[name][0][:1] != (rows,):
            raise InputError(f"{name} has shape {specs[name][0]}, expected {rows} rows")
    beside = _guess_side(others, set(chosen) | set(others), rows)
    _check_side(specs, {**chosen, **beside}, beside, rows)
    small = {name: name for name in others if name not in beside.values()}
    for name in small:
        check_name(name)
    return Layout(chosen, beside, small, rows)


def _told(specs: Specs, wanted: Sequence[str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for item in wanted:
        name, _, array = item.partition("=")
        array = array or name
        if array not in specs:
            raise InputError(f"there is no array {array!r}; the source has: {_listing(specs)}")
        if chosen.get(name, array) != array:
            raise InputError(f"{name} is said to be both {chosen[name]} and {array}")
        chosen[name] = array
    return chosen


def _guess_modalities(specs: Specs) -> dict[str, str]:
    found = [
        name
        for name, (shape, dtype) in specs.items()
        if len(shape) == 2 and dtype.kind == "f" and name not in ROW_ARRAYS
    ]
    return _renamed(found, _plain_modality, set(specs))


def _plain_modality(name: str) -> str:
    plain = _SUFFIX.sub("", name)
    return _MODALITIES.get(plain.lower(), plain)


def _guess_side(others: Specs, taken: set[str], rows: int) -> dict[str, str]:
    found = [name for name, (shape, _) in others.items() if shape[:1] == (rows,)]
    return _renamed(found, lambda name: _SIDE.get(name.lower(), name), taken)


def _renamed(names: Sequence[str], rename: Any, taken: set[str]) -> dict[str, str]:
    """Names in the store, where those are free and no two arrays would share one."""
    wanted = [rename(name) for name in names]
    return {
        new if wanted.count(new) == 1 and (new == name or new not in taken) else name: name
        for name, new in zip(names, wanted, strict=True)
    }


def _check_modalities(specs: Specs, chosen: Mapping[str, str]) -> None:
    for name, array in chosen.items():
        shape, dtype = specs[array]
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise InputError(f"{name} is {dtype}; a modality is an array of real numbers")
        if len(shape) != 2 or shape[1] == 0:
            raise InputError(f"{name} has shape {shape}; a modality is (rows, dimensions)")
    if len(chosen) < 2 or len(set(chosen.values())) < 2:
        found = next(iter(chosen), "none")
        raise InputError(
            f"at least two modalities are needed, found {found}; name 2-D arrays with "
            f"--modalities a,b; the source has: {_listing(specs)}"
        )


def _paired_rows(specs: Specs, chosen: Mapping[str, str]) -> int:
    """n, the same in every modality."""
    counts = {name: specs[array][0][0] for name, array in chosen.items()}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name} {count}" for name, count in counts.items())
        message = f"modalities are paired by row, but have unequal rows: {listing}"
        raise UnequalRowsError(message, list(chosen.values()))
    rows = next(iter(counts.values()))
    if rows < 2:
        found = "no rows" if rows == 0 else "one row"
        raise InputError(f"the modalities have {found}; at least two are needed")
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
        if dtype.kind not in _SIDE_KINDS:
            raise InputError(f"{name} is {dtype}; save it as numbers or as text")
    if "labels" in side:
        _check_labels(*specs[side["labels"]])
    if "split" in side:
        shape, dtype = specs[side["split"]]
        if dtype.kind not in "iub" or len(shape) != 1:
            raise InputError("split has to be one integer a row: 0 to train on, 1 for queries")


def _check_labels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Labels are class numbers or names (n,), or multi-hot (n, classes)."""
    text = dtype.kind in TEXT_KINDS
    if len(shape) == 1 or (len(shape) == 2 and shape[1] > 1 and not text):
        return
    raise InputError(
        f"labels has shape {shape} of {dtype}; it has to be one class a row, (n,), or multi-hot "
        "numbers, (n, classes)"
    )


def _listing(specs: Specs) -> str:
    return ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in specs.items())
