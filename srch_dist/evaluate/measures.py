"""Compute retrieval measures from counts per Hamming distance, and average over queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import hamming_distances
from srch_dist.kernels.types import Array, IntArray, Packed

_CUTOFFS = (1, 5, 10, 50, 100)
_MAP_CUTOFF = 50
_PAIR_CUTOFFS = (1, 5, 10)
# Key of the learned codes, which belong to no modality. Other keys are names of modalities.
LEARNED = "learned codes"


@dataclass(frozen=True)
class EncodedRows:
    """Codes and labels of a block of m rows.

    Attributes
    ----------
    codes : packed codes (m, l / 8) of l bits, by modality. Learned codes have the key `LEARNED`.
    labels : classes (m,), or multi-hot labels (m, c) for c classes; None without labels.
    """

    codes: Mapping[str, Packed]
    labels: Array | None


class Counts(dict[tuple[str, str], IntArray]):
    """Numbers of database rows at each Hamming distance, by (query modality, database modality).

    A value is an array (2, q, l + 1) for q queries and Hamming distances 0 … l of l-bit codes. [0]
    counts all rows, and [1] the relevant rows. ``+`` adds the counts of disjoint database rows.
    """

    def __add__(self, other: Counts) -> Counts:
        return Counts({pair: counts + other[pair] for pair, counts in self.items()})


def measure_queries(
    names: list[str],
    queries: EncodedRows,
    database_counts: Counts,
    query_counts: Counts,
    learned_counts: Counts | None,
) -> dict[str, Any]:
    """Compute the measures of each of q queries, by direction of retrieval.

    Parameters
    ----------
    names : modalities.
    queries : codes and labels of the queries.
    database_counts : numbers of database rows at each distance from the queries.
    query_counts : numbers of rows of the complete query set at each distance from the q queries.
    learned_counts : numbers of training rows whose learned codes are at each distance from the
        queries; None omits the measures "learned".

    Returns
    -------
    pair : (q, 1 + cutoffs) rank of the partner, then recall at each cutoff. The partner is the same
        row in the other modality, ranked among all rows of the database and the queries.
    retrieval, learned : see `_measures`; empty without labels.
    """
    result: dict[str, Any] = {"pair": {}, "retrieval": {}, "learned": {}}
    for source, target in permutations(names, 2):
        counts = database_counts[source, target][0] + query_counts[source, target][0]
        partner = np.diagonal(hamming_distances(queries.codes[source], queries.codes[target]))
        index = np.arange(len(partner))
        tied = counts[index, partner]
        closer = np.cumsum(counts, axis=1)[index, partner] - tied
        ranks = [retrieval_metrics.partner_rank(closer, tied)]
        ranks += [
            retrieval_metrics.partner_recall(closer, tied, cutoff) for cutoff in _PAIR_CUTOFFS
        ]
        direction = f"{source}_to_{target}"
        result["pair"][direction] = np.stack(ranks, axis=1)
        if queries.labels is not None:
            result["retrieval"][direction] = _measures(*database_counts[source, target])
            if learned_counts is not None:
                result["learned"][direction] = _measures(*learned_counts[source, LEARNED])
    return result


def _measures(items: IntArray, relevant: IntArray) -> dict[str, Array]:
    """Compute the retrieval measures of each of q queries.

    Parameters
    ----------
    items : (q, l + 1) number of database rows by query and Hamming distance 0 … l.
    relevant : (q, l + 1) number of relevant database rows, in the same order.

    Returns
    -------
    By name, arrays whose first axis is the query: "map" and "map_at_50" (q,); "precision_at"
    (q, cutoffs); "precision" and "recall" (q, l + 1) by Hamming radius 0 … l.
    """
    precision, recall = retrieval_metrics.precision_recall(items, relevant)
    return {
        "map": retrieval_metrics.average_precision(items, relevant),
        f"map_at_{_MAP_CUTOFF}": retrieval_metrics.average_precision(items, relevant, _MAP_CUTOFF),
        "precision_at": np.stack(
            [retrieval_metrics.precision_at(items, relevant, cutoff) for cutoff in _CUTOFFS], axis=1
        ),
        "precision": precision,
        "recall": recall,
    }


def average_measures(
    measured: list[dict[str, Any]], names: list[str], labelled: bool, learned: bool
) -> dict[str, Any]:
    """Average the measures over all queries, nested as in the result of `evaluate_model`.

    ``measured`` has one result of `measure_queries` per block of queries. ``labelled`` and
    ``learned`` say whether the results have the measures "retrieval" and "learned".
    """
    directions = [f"{source}_to_{target}" for source, target in permutations(names, 2)]
    pair: dict[str, Any] = {}
    for direction in directions:
        values = np.concatenate([part["pair"][direction] for part in measured])
        pair[direction] = {
            **{
                str(cutoff): float(values[:, 1 + i].mean())
                for i, cutoff in enumerate(_PAIR_CUTOFFS)
            },
            "median_rank": float(np.median(values[:, 0])),
        }
    result: dict[str, Any] = {"pair_recall": pair}
    if labelled:
        result.update(_average_retrieval(measured, "retrieval", directions))
    if learned:
        result["train_codes"] = _average_retrieval(measured, "learned", directions)
    return result


def _average_retrieval(
    measured: list[dict[str, Any]], kind: str, directions: list[str]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "map": {},
        f"map_at_{_MAP_CUTOFF}": {},
        "precision_at": {},
        "precision_recall": {},
        "queries_without_relevant": 0,
    }
    for direction in directions:
        parts = [part[kind][direction] for part in measured]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        scored = np.isfinite(joined["map"])
        result["queries_without_relevant"] = int(np.count_nonzero(~scored))
        for name in ("map", f"map_at_{_MAP_CUTOFF}"):
            result[name][direction] = _mean(joined[name][scored])
        result["precision_at"][direction] = {
            str(cutoff): _mean(joined["precision_at"][scored, i])
            for i, cutoff in enumerate(_CUTOFFS)
        }
        result["precision_recall"][direction] = {
            "radius": list(range(joined["recall"].shape[1])),
            "precision": [_mean(column) for column in joined["precision"][scored].T],
            "recall": [_mean(column) for column in joined["recall"][scored].T],
        }
    return result


def _mean(values: Array) -> float | None:
    """Average the finite values of the queries (q,); None if no value is finite."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
