"""Infer the modalities if no option names them; refuse sources whose arrays are ambiguous."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest import limits
from srch_dist.ingest.naming import RESERVED, is_label_name, side_name, split_parts, store_name
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.kernels.types import Array

# Suffixes of embedding names, as in img_emb, text_embeddings, image.features.
_FEATURE_SUFFIX = re.compile(r"[_.-](embs?|embeddings?|features?|feats?|vectors?|vecs?)$")
_MODALITY_NAMES = {"img": "image", "images": "image", "txt": "text", "texts": "text"}
# 0/1 matrices of at most this many columns count as labels: wider ones may be bags of words.
_MAX_CLASSES = 300
# Maximum rows and bytes that are read to distinguish labels from features.
_FIRST_ROWS, _FIRST_BYTES = 1024, 16 << 20


def read_first_rows(source: Source, array: str) -> Array | None:
    """Read the first rows of an array: at most 1024 rows and about 16 MiB.

    Returns None if the rows cannot be read, or if one row has more than `limits.MAX_ROW_BYTES`.
    Later steps refuse such arrays, with messages that name the array.
    """
    shape, dtype = source.specs()[array]
    row_bytes = max(1, math.prod(shape[1:]) * dtype.itemsize)
    if row_bytes > limits.MAX_ROW_BYTES:
        return None
    try:
        rows = max(1, min(_FIRST_ROWS, _FIRST_BYTES // row_bytes))
        return next(iter(source.blocks(array, rows)), None)
    except InputError:
        return None


def infer_modalities(specs: Specs, first_rows: Callable[[str], Array | None]) -> dict[str, str]:
    """Choose as modalities all 2-D floating-point arrays whose names are not usual for side arrays.

    Returns a mapping from store name to the array's name in the source.

    Raises
    ------
    InputError : some arrays are parts of a split or look like labels. The message suggests options
        that name the modalities.
    """
    arrays = [name for name in specs if _is_matrix(specs, name) and not _is_reserved(name)]
    labels = {name: reason for name in arrays if (reason := _label_reason(name, first_rows))}
    parts = split_parts(arrays)
    if parts:
        _refuse_parts(specs, parts, list(labels))
    rest = [name for name in arrays if name not in labels]
    if labels:
        _refuse_labels(specs, rest, labels)
    return renamed(arrays, _modality_name, set(specs))


def warn_of_labels(
    chosen: Mapping[str, str], first_rows: Callable[[str], Array | None]
) -> list[str]:
    """Return a warning for each chosen modality whose name and values look like labels."""
    return [
        f"modality {name}: codes are learned from {array}, which has the name and the values of "
        f"labels. To use {array} for scores only, remove {array} from --modalities"
        for name, array in chosen.items()
        if (is_label_name(name) or is_label_name(array)) and _holds_labels(first_rows(array))
    ]


def renamed(arrays: Sequence[str], rename: Callable[[str], str], taken: set[str]) -> dict[str, str]:
    """Rename arrays with ``rename``; return a mapping from new name to array name.

    An array keeps its name if its new name is in ``taken`` or is also another array's new name.
    """
    names = [rename(array) for array in arrays]
    return {
        name if names.count(name) == 1 and (name == array or name not in taken) else array: array
        for array, name in zip(arrays, names, strict=True)
    }


def without_feature_suffix(name: str) -> str:
    """Remove the suffix of an embedding's name: ``image_embeddings`` becomes ``image``."""
    return _FEATURE_SUFFIX.sub("", name)


def listing(specs: Specs) -> str:
    """List all arrays with shape and dtype, for error messages."""
    return ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in specs.items())


def _refuse_labels(specs: Specs, rest: Sequence[str], labels: Mapping[str, str]) -> None:
    """Raise InputError: the arrays in ``labels`` look like class labels, not like features.

    ``labels`` maps the name of each such array to the reason. ``rest`` names the other arrays,
    which the message suggests as modalities.
    """
    reasons = "; ".join(f"{name} {reason}" for name, reason in labels.items())
    problem = f"labels are used for scores and are not modalities by default, but {reasons}"
    if len(rest) < 2:
        raise InputError(
            f"{problem}. At least two modalities are needed: name them with --modalities a,b; the "
            f"source has: {listing(specs)}"
        )
    rows = specs[rest[0]][0][0]
    others = [
        name
        for name, (shape, _) in specs.items()
        if shape[:1] == (rows,) and name not in rest and name not in labels
    ]
    side = [f"labels={next(iter(labels))}"] if "labels" not in others else []
    side += [name for name in labels if f"labels={name}" not in side]
    side += [f"{side_name(n)}={n}" if side_name(n) else n for n in others]
    side = [item.partition("=")[0] if len(set(item.split("="))) == 1 else item for item in side]
    raise InputError(f"{problem}. Type: {_line(_named(rest), side)}")


def _refuse_parts(
    specs: Specs, parts: Mapping[str, Mapping[str, str]], labels: Sequence[str]
) -> None:
    """Raise InputError: some arrays are parts (train, test) of one array; suggest to stack them.

    ``parts`` is the result of `split_parts`; ``labels`` names the arrays that look like labels.
    """
    first = next(iter(parts.values()))
    order = [part for part in ("database", "train") if part in first][:1]
    order += [part for part in ("query", "validation") if part in first]
    if len(order) < 2:
        order = list(first)
    modalities: list[str] = []
    side: list[str] = []
    for stem, named in split_parts([name for name in specs if specs[name][0]]).items():
        if not set(order) <= set(named):
            continue
        arrays = [named[part] for part in order]
        stack = "+".join(arrays)
        if is_label_name(arrays[0]) or arrays[0] in labels:
            side.append(f"labels={stack}" if not side else f"{store_name(arrays[0])}={stack}")
        elif stem in parts:
            modalities.append(f"{store_name(arrays[0])}={stack}")
        else:
            name = store_name(arrays[0])
            side.append(f"{side_name(name) or name}={stack}")
    names = " and ".join(first[part] for part in order)
    problem = f"{names} look like parts of one array (train and test), not like paired modalities"
    if len(modalities) < 2:
        raise InputError(
            f"{problem}. Name the modalities with --modalities, such as a=a_train+a_test to stack "
            f"parts; the source has: {listing(specs)}"
        )
    raise InputError(
        f"{problem}. To stack them, with split 0 for the first part and 1 for the second, type: "
        f"{_line(modalities, side or None)}"
    )


def _named(arrays: Sequence[str]) -> list[str]:
    """Format each array as an item NAME=ARRAY of --modalities, with a suggested NAME."""
    names = [store_name(without_feature_suffix(array)) for array in arrays]
    return [
        f"{name}={array}" if name != array and names.count(name) == 1 else array
        for name, array in zip(names, arrays, strict=True)
    ]


def _line(modalities: Sequence[str], side: Sequence[str] | None) -> str:
    line = f"--modalities {shlex.quote(','.join(modalities))}"
    return line if side is None else f"{line} --side {shlex.quote(','.join(side))}"


def _is_matrix(specs: Specs, name: str) -> bool:
    shape, dtype = specs[name]
    return len(shape) == 2 and dtype.kind == "f"


def _is_reserved(name: str) -> bool:
    return name.lower() in (*RESERVED, "label")


def _modality_name(array: str) -> str:
    name = without_feature_suffix(array)
    return _MODALITY_NAMES.get(name.lower(), name)


def _label_reason(name: str, first_rows: Callable[[str], Array | None]) -> str | None:
    """Explain why the array ``name`` looks like labels; None if it does not."""
    if is_label_name(name):
        return "has a name that is usual for labels"
    return "holds only 0 and 1, as labels do" if _holds_labels(first_rows(name)) else None


def _holds_labels(block: Array | None) -> bool:
    """Whether m rows (m, c) of an array look like multi-hot, one-hot or ±1 labels of c classes."""
    if block is None or block.ndim != 2 or block.dtype.kind not in "fiub" or not block.size:
        return False
    values = np.unique(block)
    if len(values) < 2 or not np.isin(values, (-1, 0, 1)).all() or values[-1] != 1:
        return False
    if block.shape[1] <= _MAX_CLASSES:
        return True
    # Wider matrices are labels only if they are one-hot.
    return bool(((block == 1).sum(axis=1) == 1).all() and values[0] == 0)
