"""Search several code stores as one: images and texts, or codes of different stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from srch_dist.errors import InputError
from srch_dist.kernels.types import Array, IntArray, Mask, Matrix, Packed
from srch_dist.runtime.progress import Progress, silent
from srch_dist.search.hamming import SearchResult, both_masks, rerank, search_codes
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.joined_stores import Columns

# Number of candidates that re-ranking ranks for each row of the result.
CANDIDATES = 10


@dataclass(frozen=True)
class Part:
    """Codes that are searched together with others.

    Attributes
    ----------
    codes : codes of n rows.
    store : the feature store of these rows, for side columns; None if it is not known.
    allowed : (n,) True for the rows that may be found; None finds all.
    """

    codes: CodeStore
    store: Columns | None = None
    allowed: Mask | None = None


def search_parts(
    parts: Sequence[Part],
    queries: Packed,
    top: int,
    scores: Matrix | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the nearest rows of each query in all parts together, exactly.

    Parameters
    ----------
    parts : code stores of one model.
    queries : (q, l / 8) uint8, packed codes.
    top : results per query, at least 1; fewer if fewer rows may be found.
    scores : (q, l) real-valued scores of the queries, to re-rank ten times as many candidates; None
        sorts by distance.
    progress : display of the progress; None shows nothing.

    Returns
    -------
    The result; its ``parts`` number the store of each row. Ties are sorted by part and row.

    Raises
    ------
    InputError : no row may be found.
    """
    progress = progress or silent()
    found: list[SearchResult] = []
    numbers: list[int] = []
    for number, part in enumerate(parts):
        allowed = both_masks(part.codes.alive(), part.allowed)
        if allowed is not None and not allowed.any():
            continue
        wanted = min(part.codes.rows, top * (CANDIDATES if scores is not None else 1))
        near = search_codes(part.codes, queries, wanted, progress, part.allowed)
        if scores is not None:
            near = rerank(part.codes, scores, near, min(top, near.rows.shape[1]))
        found.append(near)
        numbers.append(number)
    if not found:
        raise InputError("no row may be found: the filter matches none, or all are deleted.")
    return _merged(found, numbers, top)


def _merged(found: Sequence[SearchResult], numbers: Sequence[int], top: int) -> SearchResult:
    def joined(arrays: Sequence[Array]) -> Array:
        return np.concatenate(arrays, axis=1)

    rows, distances = joined([one.rows for one in found]), joined([one.distances for one in found])
    parts: IntArray = joined(
        [np.full(one.rows.shape, number) for one, number in zip(found, numbers, strict=True)]
    )
    scores = [one.scores for one in found if one.scores is not None]
    ranked = joined(scores) if scores else None
    key = distances if ranked is None else -ranked
    order = np.lexsort((rows, parts, key), axis=1)[:, :top]

    def taken(values: Array) -> Array:
        return np.take_along_axis(values, order, 1)

    return SearchResult(
        taken(rows), taken(distances), None if ranked is None else taken(ranked), taken(parts)
    )
