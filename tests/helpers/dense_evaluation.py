"""Dense computation of the measures of an evaluation: every distance, sorted row by row."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import zarr

from srch_dist.encode.model import load_model
from srch_dist.encode.scoring import score_rows
from tests.helpers.models import numpy_bits

CUTOFFS = (1, 5, 10, 50, 100)
BITS = 16  # of every run here
RANKINGS = ("symmetric", "asymmetric")


def expected_places(distances: np.ndarray, relevant: np.ndarray) -> tuple[list, list]:
    """Expected precision sum and relevant rows at each place of one query's ranking.

    At place j of a tie block with N rows, R of them relevant, a row is relevant with probability
    R / N, and (j - 1)(R - 1) / (N - 1) relevant ones of the block are then expected before it.
    """
    sums, hits, before, found = [], [], 0, 0
    for d in np.unique(distances):
        block = distances == d
        n, r = int(block.sum()), int(relevant[block].sum())
        for j in range(n):
            earlier = j * (r - 1) / (n - 1) if n > 1 else 0
            sums.append(r / n * (found + 1 + earlier) / (before + j + 1))
            hits.append(r / n)
        before, found = before + n, found + r
    return sums, hits


def dense_retrieval(distances: np.ndarray, relevant: np.ndarray) -> dict:
    """Means over the queries that have anything relevant."""
    rows = []
    for d, r in zip(distances, relevant, strict=True):
        if not r.any():
            continue
        sums, hits = expected_places(d, r)
        radii = range(BITS + 1)
        within = [d <= radius for radius in radii]
        rows.append(
            {
                "map": sum(sums) / r.sum(),
                "map_at_50": sum(sums[:50]) / min(50, r.sum()),
                "precision_at": {str(c): sum(hits[:c]) / c for c in CUTOFFS},
                "precision": [r[w].mean() if w.any() else np.nan for w in within],
                "recall": [(r & w).sum() / r.sum() for w in within],
            }
        )
    return {
        "map": np.mean([row["map"] for row in rows]),
        "map_at_50": np.mean([row["map_at_50"] for row in rows]),
        "precision_at": {
            str(c): np.mean([row["precision_at"][str(c)] for row in rows]) for c in CUTOFFS
        },
        "precision": [
            np.mean(known) if (known := [p for p in column if not np.isnan(p)]) else None
            for column in zip(*(row["precision"] for row in rows), strict=True)
        ],
        "recall": list(np.mean([row["recall"] for row in rows], axis=0)),
        "queries_without_relevant": len(relevant) - len(rows),
    }


def relevance(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    if queries.ndim == 1:
        return np.array([[a == b and a != "" for b in database] for a in queries])
    return np.array([[bool(np.any((a > 0) & (b > 0))) for b in database] for a in queries])


def dense_pairs(far, queries: np.ndarray, everyone: np.ndarray) -> dict:
    """Recall and median rank of each query's own row among ``everyone``."""
    ranks, recalls = [], []
    for row, query in zip(far, queries, strict=True):
        own, others = row[query], row[everyone]
        closer, tied = np.sum(others < own), np.sum(others == own)
        ranks.append(closer + (tied + 1) / 2)
        places = np.arange(closer + 1, closer + tied + 1)
        recalls.append([np.mean(places <= cutoff) for cutoff in (1, 5, 10)])
    recall = dict(zip(("1", "5", "10"), np.mean(recalls, axis=0), strict=True))
    return {**recall, "median_rank": np.median(ranks)}


def dense_asymmetric(model, modality: str, rows: np.ndarray, database_bits: np.ndarray):
    """Σ |q_j| over the bits that differ, q being scores of the queries in integers."""
    scores = score_rows(load_model(model), modality, rows)
    scale = (2047 - BITS / 2) / np.abs(scores).sum(axis=1)
    q = np.round(scores * scale[:, None])
    return np.array([[np.abs(row)[(row > 0) != b].sum() for b in database_bits] for row in q])


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def dense_kept(codes: np.ndarray, floats: np.ndarray) -> float:
    """Share of the 10 nearest by float that is among the 10 nearest by code, over ties' orders."""
    shares = []
    for far, exact in zip(codes, floats, strict=True):
        nearest = np.argsort(exact, kind="stable")[:10]
        orders = [np.lexsort((np.random.default_rng(i).random(len(far)), far)) for i in range(400)]
        shares.append(np.mean([len(set(order[:10]) & set(nearest)) / 10 for order in orders]))
    return float(np.mean(shares))


def dense_evaluation(trained, queries: np.ndarray, database: np.ndarray) -> dict:
    """The whole result of `evaluate_model` from the model file and the store."""
    store, run = trained.store, trained.run
    names = list(store.modalities)
    bits = {g: numpy_bits(run.model, g, store.read(g)) for g in names}
    labels = store.read("labels") if "labels" in store.side else None
    packed = zarr.open_array(run.codes, mode="r")[:]
    learned = np.unpackbits(packed, axis=1, bitorder="little").astype(bool)
    learned_rows = zarr.open_array(run.rows, mode="r")[:]
    names_of = ("pair_recall", "asymmetric_pairs", "float_pair_recall", "kept")
    result = {name: {} for name in (*names_of, "retrieval", "asymmetric", "train_codes")}
    for source, target in permutations(names, 2):
        direction = f"{source}_to_{target}"
        far = np.array([[np.sum(a != b) for b in bits[target]] for a in bits[source][queries]])
        weighted = dense_asymmetric(run.model, source, store.read(source)[queries], bits[target])
        everyone = np.sort(np.r_[queries, database])
        result["pair_recall"][direction] = dense_pairs(far, queries, everyone)
        result["asymmetric_pairs"][direction] = dense_pairs(weighted, queries, everyone)
        if store.modalities[source] == store.modalities[target]:
            cosines = unit(store.read(source)[queries]) @ unit(store.read(target)).T
            far_floats = np.round(-cosines, 9)
            result["float_pair_recall"][direction] = dense_pairs(far_floats, queries, everyone)
            result["kept"][direction] = [
                dense_kept(each[:, database], far_floats[:, database]) for each in (far, weighted)
            ]
        if labels is not None:
            relevant = relevance(labels[queries], labels[database])
            result["asymmetric"][direction] = dense_retrieval(weighted[:, database], relevant)
            result["retrieval"][direction] = dense_retrieval(far[:, database], relevant)
            far = np.array([[np.sum(a != b) for b in learned] for a in bits[source][queries]])
            relevant = relevance(labels[queries], labels[learned_rows])
            result["train_codes"][direction] = dense_retrieval(far, relevant)
    return result


def assert_dense_result(found: dict, trained, queries: np.ndarray, database: np.ndarray) -> None:
    expected = dense_evaluation(trained, queries, database)
    directions = [f"{a}_to_{b}" for a, b in permutations(trained.store.modalities, 2)]
    assert (found["queries"], found["database"]) == (len(queries), len(database))
    assert list(found["pair_recall"]) == directions
    for direction in directions:
        assert found["pair_recall"][direction] == pytest.approx(expected["pair_recall"][direction])
    for direction, pairs in expected["asymmetric_pairs"].items():
        assert found["asymmetric"]["pair_recall"][direction] == pytest.approx(pairs)
    for direction, values in expected["asymmetric"].items():
        for name in ("map", "map_at_50", "precision_at"):
            assert found["asymmetric"][name][direction] == pytest.approx(values[name])
    assert ("float_pair_recall" in found) == bool(expected["kept"])
    for direction, kept in expected["kept"].items():
        floats = expected["float_pair_recall"][direction]
        assert found["float_pair_recall"][direction] == pytest.approx(floats)
        shares = [found["neighbours_kept"][name][direction] for name in RANKINGS]
        assert shares == pytest.approx(kept, abs=0.01)  # the expected one is drawn
    for kind, part in (("retrieval", found), ("train_codes", found.get("train_codes"))):
        for direction, values in expected[kind].items():
            assert part["map"][direction] == pytest.approx(values["map"])
            assert part["map_at_50"][direction] == pytest.approx(values["map_at_50"])
            assert part["precision_at"][direction] == pytest.approx(values["precision_at"])
            curve = part["precision_recall"][direction]
            assert curve["radius"] == list(range(BITS + 1))
            assert curve["recall"] == pytest.approx(values["recall"])
            assert curve["precision"] == [
                None if p is None else pytest.approx(p) for p in values["precision"]
            ]
            assert part["queries_without_relevant"] == values["queries_without_relevant"]
