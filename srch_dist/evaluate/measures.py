"""Compute retrieval measures from counts per Hamming distance, and average over queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import hamming_distances
from srch_dist.kernels.types import Array, IntArray, Packed
from srch_dist.kernels.weighted_hamming import (
    QueryWeights,
    largest_distance,
    weighted_distances,
)

_CUTOFFS = (1, 5, 10, 50, 100)
_MAP_CUTOFF = 50
_PAIR_CUTOFFS = (1, 5, 10)
# Scores of the asymmetric ranking. Its distances are no radius that means something to a user.
_ASYMMETRIC_SCORES = ("map", f"map_at_{_MAP_CUTOFF}", "precision_at")
# Key of the learned codes, which belong to no modality. Other keys are names of modalities.
LEARNED = "learned codes"
# Rankings: by Hamming distance, and by the distance of a query's scores to the codes.
SYMMETRIC, ASYMMETRIC = "symmetric", "asymmetric"
# (modality of the queries, modality of the database, ranking).
Key = tuple[str, str, str]


@dataclass(frozen=True)
class EncodedRows:
    """Codes and labels of a block of m rows.

    Attributes
    ----------
    codes : packed codes (m, l / 8) of l bits, by modality. Learned codes have the key `LEARNED`.
    labels : classes (m,), or multi-hot labels (m, c) for c classes; None without labels.
    weights : weights (m, l) of the bits for the asymmetric ranking, by modality; queries only.
    """

    codes: Mapping[str, Packed]
    labels: Array | None
    weights: Mapping[str, QueryWeights] = field(default_factory=dict)

    def row(self, number: int) -> EncodedRows:
        """Return one row, without its labels."""
        part = slice(number, number + 1)
        codes = {g: block[part] for g, block in self.codes.items()}
        return EncodedRows(codes, None, {g: block[part] for g, block in self.weights.items()})


class Counts(dict[Key, IntArray]):
    """Numbers of database rows at each distance.

    A value is an array (2, q, m + 1) for q queries and distances 0 … m. [0] counts all rows, and
    [1] the relevant rows. ``+`` adds the counts of disjoint database rows.
    """

    def __add__(self, other: Counts) -> Counts:
        return Counts({key: counts + other[key] for key, counts in self.items()})


def code_distances(queries: EncodedRows, codes: Packed, key: Key) -> IntArray:
    """Compute distances (q, n) of the queries to packed codes (n, l / 8), for one ranking."""
    source, _, ranking = key
    if ranking == ASYMMETRIC:
        return weighted_distances(queries.weights[source], codes)
    return hamming_distances(queries.codes[source], codes)


def count_rows(queries: EncodedRows, block: EncodedRows, keys: Sequence[Key], tile: int) -> Counts:
    """Count the rows of ``block`` at each distance from the queries, ``tile`` rows at a time."""
    counts = Counts()
    for key in keys:
        source, target, ranking = key
        bits = queries.codes[source].shape[1] * 8
        most = largest_distance(bits) if ranking == ASYMMETRIC else bits
        totals = np.zeros((2, len(queries.codes[source]), most + 1), dtype=np.int64)
        database = block.codes[target]
        for start in range(0, len(database), tile):
            part = slice(start, start + tile)
            distances = code_distances(queries, database[part], key)
            totals[0] += retrieval_metrics.distance_counts(distances, None, most)
            if queries.labels is not None and block.labels is not None:
                relevant = retrieval_metrics.relevance(queries.labels, block.labels[part])
                totals[1] += retrieval_metrics.distance_counts(distances, relevant, most)
        counts[key] = totals
    return counts


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
    asymmetric : "pair" and "retrieval" of the asymmetric ranking.
    """
    result: dict[str, Any] = {"pair": {}, "retrieval": {}, "learned": {}}
    result[ASYMMETRIC] = {"pair": {}, "retrieval": {}}
    for source, target in permutations(names, 2):
        direction = f"{source}_to_{target}"
        for ranking, into in ((SYMMETRIC, result), (ASYMMETRIC, result[ASYMMETRIC])):
            key = source, target, ranking
            into["pair"][direction] = _pair_ranks(queries, database_counts, query_counts, key)
            if queries.labels is not None:
                into["retrieval"][direction] = _measures(*database_counts[key])
        if queries.labels is not None and learned_counts is not None:
            result["learned"][direction] = _measures(*learned_counts[source, LEARNED, SYMMETRIC])
    return result


def _pair_ranks(
    queries: EncodedRows, database_counts: Counts, query_counts: Counts, key: Key
) -> Array:
    """Compute rank and recalls (q, 1 + cutoffs) of the partners in one ranking."""
    counts = database_counts[key][0] + query_counts[key][0]
    partner = np.diagonal(code_distances(queries, queries.codes[key[1]], key))
    index = np.arange(len(partner))
    tied = counts[index, partner]
    return rank_partners(np.cumsum(counts, axis=1)[index, partner] - tied, tied)


def rank_partners(closer: IntArray, tied: IntArray) -> Array:
    """Compute rank and recalls (q, 1 + cutoffs) from the numbers of closer and of tied rows."""
    ranks = [retrieval_metrics.partner_rank(closer, tied)]
    ranks += [retrieval_metrics.partner_recall(closer, tied, cutoff) for cutoff in _PAIR_CUTOFFS]
    return np.stack(ranks, axis=1)


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
    result: dict[str, Any] = {"pair_recall": average_pairs([part["pair"] for part in measured])}
    asymmetric = [part[ASYMMETRIC] for part in measured]
    result[ASYMMETRIC] = {"pair_recall": average_pairs([part["pair"] for part in asymmetric])}
    if labelled:
        result.update(_average_retrieval(measured, "retrieval", directions))
        scores = _average_retrieval(asymmetric, "retrieval", directions)
        result[ASYMMETRIC] |= {name: scores[name] for name in _ASYMMETRIC_SCORES}
    if learned:
        result["train_codes"] = _average_retrieval(measured, "learned", directions)
    return result


def average_pairs(parts: Sequence[Mapping[str, Array]]) -> dict[str, dict[str, float]]:
    """Average ranks and recalls (q, 1 + cutoffs) of partners over all queries, by direction."""
    result = {}
    for direction in parts[0]:
        values = np.concatenate([part[direction] for part in parts])
        result[direction] = {
            **{
                str(cutoff): float(values[:, 1 + i].mean())
                for i, cutoff in enumerate(_PAIR_CUTOFFS)
            },
            "median_rank": float(np.median(values[:, 0])),
        }
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
