"""The schema of an ingest: which array of a source is a modality, a side array or an attribute.

Options name the arrays; without them names, shapes and dtypes decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources.base import Specs
from srch_dist.storage.feature_store import check_name

# Side arrays with a meaning. With another number of rows they are a mistake, not an attribute.
_KNOWN_SIDE = ("labels", "split", "ids", "titles")
TEXT_KINDS = "UT"
PLAIN_KINDS = "fiub" + TEXT_KINDS
# How names of embeddings end: img_emb, text_embeddings, image.features.
_FEATURE_SUFFIX = re.compile(r"[_.-](embs?|embeddings?|features?|feats?|vectors?|vecs?)$")
_MODALITY_NAMES = {"img": "image", "images": "image", "txt": "text", "texts": "text"}
_SIDE_NAMES = {
    **dict.fromkeys(("id", "key", "keys"), "ids"),
    **dict.fromkeys(("caption", "captions", "title"), "titles"),
    "label": "labels",
}


class UnequalRowsError(InputError):
    """Modalities with unequal numbers of rows.

    Attributes
    ----------
    arrays : names of the modalities' arrays in the source.
    """

    def __init__(self, message: str, arrays: Sequence[str]) -> None:
        super().__init__(message)
        self.arrays = arrays


@dataclass(frozen=True)
class Schema:
    """The role of each array of a source; mappings are from store name to source name.

    Attributes
    ----------
    modalities : paired features (n, d_g).
    side : other arrays of n rows.
    attributes : small arrays of other lengths.
    rows : number n of rows.
    """

    modalities: Mapping[str, str]
    side: Mapping[str, str]
    attributes: Mapping[str, str]
    rows: int

    @property
    def rowwise(self) -> dict[str, str]:
        """All arrays of n rows, modalities first."""
        return {**self.modalities, **self.side}


def choose_schema(
    specs: Specs, modalities: Sequence[str] | None = None, side: Sequence[str] | None = None
) -> Schema:
    """Assign a role to each array of a source.

    Parameters
    ----------
    specs : (shape, dtype) of every array of the source.
    modalities : modalities, as ``array`` or ``name=array``; all 2-D floating-point arrays if None.
    side : side arrays, in the same form. If None, all other arrays of n rows are side arrays, and
        arrays of other lengths are attributes.

    Raises
    ------
    InputError : a named array does not exist, or the arrays cannot be paired features.
    """
    chosen = _infer_modalities(specs) if modalities is None else _parse_names(specs, modalities)
    _check_modalities(specs, chosen)
    rows = _paired_rows(specs, chosen)
    others = {name: spec for name, spec in specs.items() if name not in chosen.values()}
    if side is not None:
        named = _parse_names(specs, side)
        _check_side(specs, {**chosen, **named}, named, rows)
        return Schema(chosen, named, {}, rows)
    for name in _KNOWN_SIDE:
        if name in specs and specs[name][0][:1] != (rows,):
            raise InputError(f"{name} has shape {specs[name][0]}, expected {rows} rows")
    inferred = _infer_side(others, set(chosen) | set(others), rows)
    _check_side(specs, {**chosen, **inferred}, inferred, rows)
    attributes = {name: name for name in others if name not in inferred.values()}
    for name in attributes:
        check_name(name)
    return Schema(chosen, inferred, attributes, rows)


def without_feature_suffix(name: str) -> str:
    """The modality in the name of an embedding: ``image`` of ``image_embeddings``."""
    return _FEATURE_SUFFIX.sub("", name)


def _parse_names(specs: Specs, items: Sequence[str]) -> dict[str, str]:
    """Parse ``array`` and ``name=array`` into source names by store name."""
    chosen: dict[str, str] = {}
    for item in items:
        name, _, array = item.partition("=")
        array = array or name
        if array not in specs:
            raise InputError(f"there is no array {array!r}; the source has: {_listing(specs)}")
        if chosen.get(name, array) != array:
            raise InputError(
                f"{name} names two arrays, {chosen[name]} and {array}. Choose one of them."
            )
        chosen[name] = array
    return chosen


def _infer_modalities(specs: Specs) -> dict[str, str]:
    arrays = [
        name
        for name, (shape, dtype) in specs.items()
        if len(shape) == 2 and dtype.kind == "f" and name not in _KNOWN_SIDE
    ]
    return _renamed(arrays, _modality_name, set(specs))


def _modality_name(array: str) -> str:
    name = without_feature_suffix(array)
    return _MODALITY_NAMES.get(name.lower(), name)


def _infer_side(others: Specs, taken: set[str], rows: int) -> dict[str, str]:
    arrays = [name for name, (shape, _) in others.items() if shape[:1] == (rows,)]
    return _renamed(arrays, lambda array: _SIDE_NAMES.get(array.lower(), array), taken)


def _renamed(
    arrays: Sequence[str], rename: Callable[[str], str], taken: set[str]
) -> dict[str, str]:
    """Rename arrays for the store; an array keeps its name if the new one is not free."""
    names = [rename(array) for array in arrays]
    return {
        name if names.count(name) == 1 and (name == array or name not in taken) else array: array
        for array, name in zip(arrays, names, strict=True)
    }


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
            f"arrays with --modalities a,b; the source has: {_listing(specs)}"
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
        if dtype.kind not in "iub" or len(shape) != 1:
            raise InputError(
                f"split has shape {shape} of {dtype}; it must be one integer per row: 0 to train "
                "on, 1 for queries"
            )


def _check_labels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Labels are class numbers or names (n,), or multi-hot (n, classes)."""
    text = dtype.kind in TEXT_KINDS
    if len(shape) == 1 or (len(shape) == 2 and shape[1] > 1 and not text):
        return
    raise InputError(
        f"labels has shape {shape} of {dtype}; it must be one class per row, (n,), or multi-hot "
        "numbers, (n, classes)"
    )


def _listing(specs: Specs) -> str:
    return ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in specs.items())
