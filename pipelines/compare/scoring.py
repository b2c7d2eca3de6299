"""Mean average precision of codes and of real-valued distances, in expectation over ties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import hamming_distances, pack_codes
from srch_dist.kernels.types import Packed

from .baselines.protocol import CodeModel, DistanceModel, FloatArray
from .data import RetrievalTask

# Distances per tile of queries.
_ENTRIES = 1 << 22
# Real-valued distances that differ by less are tied.
_TIE = 1e-9

PackedCodes = Mapping[str, Mapping[str, Packed]]
Measures = dict[str, list[float]]
Distances = Callable[[str, str, str, slice], NDArray[Any]]


def score_model(task: RetrievalTask, model: CodeModel | DistanceModel) -> Measures:
    """MAP of a baseline in both directions; see `score_codes`."""
    if isinstance(model, CodeModel):
        codes = {
            side: {g: pack_codes(model.encode(g, X)) for g, X in blocks.items()}
            for side, blocks in task.features.items()
        }
        return score_codes(task, codes)

    def distances(side: str, g: str, h: str, tile: slice) -> FloatArray:
        Q = task.features["queries"][g][tile]
        return model.distances(g, Q, h, task.features[side][h])

    return _measure(task, distances, real_average_precision)


def score_codes(task: RetrievalTask, codes: PackedCodes) -> Measures:
    """MAP of packed codes in both directions; queries without a relevant row do not count.

    Parameters
    ----------
    task : RetrievalTask
    codes : mapping
        Packed codes (rows, bits/8) by side and modality.

    Returns
    -------
    dict
        ``map``: the training rows are the database. ``unseen``: the queries are the database, and
        each query's own pair is excluded. ``pair_10``: share of the queries whose own row in the
        other modality is among the 10 nearest of all training rows and queries.
    """
    bits = 8 * next(iter(codes["train"].values())).shape[1]

    def distances(side: str, g: str, h: str, tile: slice) -> NDArray[np.int64]:
        return hamming_distances(codes["queries"][g][tile], codes[side][h])

    def precision(d: NDArray[np.int64], relevant: NDArray[np.bool_]) -> FloatArray:
        items = retrieval_metrics.distance_counts(d, None, bits)
        return retrieval_metrics.average_precision(
            items, retrieval_metrics.distance_counts(d, relevant, bits)
        )

    return _measure(task, distances, precision)


def real_average_precision(distances: FloatArray, relevant: NDArray[np.bool_]) -> FloatArray:
    """Average precision (q,) of distances (q, n) and relevance (q, n); equal distances are ties."""
    q, n = distances.shape
    order = np.argsort(distances, axis=1)
    steps = np.diff(np.take_along_axis(distances, order, axis=1), axis=1) != 0
    block = np.zeros((q, n), dtype=np.int64)
    np.cumsum(steps, axis=1, out=block[:, 1:])
    items = retrieval_metrics.distance_counts(block, None, n - 1)
    hits = retrieval_metrics.distance_counts(
        block, np.take_along_axis(relevant, order, axis=1), n - 1
    )
    return retrieval_metrics.average_precision(items, hits)


def _measure(
    task: RetrievalTask, distances: Distances, precision: Callable[..., FloatArray]
) -> Measures:
    """Measures of both directions, a tile of queries at a time; see `score_codes`."""
    measures: Measures = {"map": [], "unseen": [], "pair_10": []}
    step = max(1, _ENTRIES // sum(len(rows) for rows in task.rows.values()))
    for g, h in task.directions:
        values: dict[str, list[FloatArray]] = {name: [] for name in measures}
        for start in range(0, len(task.rows["queries"]), step):
            tile = slice(start, start + step)
            found = {side: distances(side, g, h, tile) for side in task.rows}
            relevant = {side: rows[tile] for side, rows in task.relevant.items()}
            others = (_without_diagonal(each["queries"], start) for each in (found, relevant))
            values["map"].append(precision(found["train"], relevant["train"]))
            values["unseen"].append(precision(*others))
            values["pair_10"].append(_pair_recall(found, start, 10))
        for name, parts in values.items():
            measures[name].append(float(np.nanmean(np.concatenate(parts))))
    return measures


def _pair_recall(found: Mapping[str, NDArray[Any]], start: int, cutoff: int) -> FloatArray:
    """Probability (q,) that a query's own row is in the first ranks of all rows of both sides."""
    rows = np.arange(len(found["queries"]))
    own = found["queries"][rows, start + rows][:, None]
    every = np.concatenate(list(found.values()), axis=1)
    tolerance = _TIE if every.dtype.kind == "f" else 0
    closer = np.count_nonzero(every < own - tolerance, axis=1)
    tied = np.count_nonzero(np.abs(every - own) <= tolerance, axis=1)
    return retrieval_metrics.partner_recall(closer, tied, cutoff)


def _without_diagonal(values: NDArray[Any], start: int) -> NDArray[Any]:
    """Rows start, start + 1, … of a square matrix (q, q) without their diagonal entries."""
    rows, columns = values.shape
    off_diagonal = np.arange(columns) != start + np.arange(rows)[:, None]
    result: NDArray[Any] = values[off_diagonal].reshape(rows, columns - 1)
    return result
