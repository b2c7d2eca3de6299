"""Compare the codes in a faiss binary index with the codes that it should hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import InputError, require
from srch_dist.kernels.types import Packed
from srch_dist.storage.code_store import CodeStore


def check_codes(path: str | Path, index: Any, codes: CodeStore) -> None:
    """Check that the flat or inverted ``index`` of the file ``path`` holds exactly ``codes``.

    An index of earlier codes has the same shape, and finds rows at true distances. It only misses
    rows. The comparison reads all codes once, as loading the index does.

    Raises
    ------
    InputError : the index does not hold every row of ``codes`` once, or it holds something else.
    """
    if index.ntotal < codes.rows and codes.parts:
        raise InputError(
            f"{path} holds {index.ntotal} rows, but {codes.path} has {codes.rows} now. Add the "
            "new ones with: python -m srch_dist.export --append"
        )
    if not _holds_codes(index, codes):
        raise InputError(
            f"{path} is not an index of the codes {codes.path}. Give the index that was exported "
            "from these codes, or export them again."
        )


def _holds_codes(index: Any, codes: CodeStore) -> bool:
    if index.ntotal != codes.rows or index.d != codes.bits:
        return False
    held = _codes_by_row(index)
    if held is None:
        return False
    return all(
        np.array_equal(held[start : start + len(block)], block) for start, block in codes.runs()
    )


def _codes_by_row(index: Any) -> Packed | None:
    """Return the codes (n, l / 8) of an index; None if the index does not hold each row once."""
    faiss = require("faiss", "search", "a search in an index")
    width = index.d // 8
    held: Packed
    if not isinstance(index, faiss.IndexBinaryIVF):
        held = faiss.rev_swig_ptr(index.xb.data(), index.ntotal * width)
        return held.reshape(index.ntotal, width)
    lists = index.invlists
    held = np.zeros((index.ntotal, width), np.uint8)
    found = np.zeros(index.ntotal, np.bool_)
    for number in range(index.nlist):
        size = lists.list_size(number)
        if not size:
            continue
        rows = faiss.rev_swig_ptr(lists.get_ids(number), size)
        if rows.min() < 0 or rows.max() >= index.ntotal or found[rows].any():
            return None
        found[rows] = True
        held[rows] = faiss.rev_swig_ptr(lists.get_codes(number), size * width).reshape(size, width)
    return held if found.all() else None
