"""Retrieval measures, against brute force over every order of the ties, and scikit-learn."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from srch_dist.kernels import retrieval_metrics

BITS = 8


def counts(distances, relevant) -> tuple[np.ndarray, np.ndarray]:
    """Counts of items and of relevant rows by distance, for one query."""
    distances, relevant = np.asarray(distances), np.asarray(relevant, dtype=bool)
    items = np.bincount(distances, minlength=BITS + 1)[None, :]
    return items, np.bincount(distances[relevant], minlength=BITS + 1)[None, :]


def tied_orders(distances):
    """Every ranking that sorts by distance, each as row numbers."""
    blocks = [np.flatnonzero(np.asarray(distances) == d) for d in np.unique(distances)]
    for parts in product(*(permutations(block) for block in blocks)):
        yield [int(row) for part in parts for row in part]


def precision_sum(ranked, cutoff) -> float:
    hits, total = 0, 0.0
    for place, hit in enumerate(ranked[:cutoff], start=1):
        hits += hit
        total += hit * hits / place
    return total


def brute_average_precision(distances, relevant, cutoff=None) -> float:
    limit = min(sum(relevant), cutoff or len(relevant))
    values = [
        precision_sum([relevant[row] for row in order], cutoff) / limit
        for order in tied_orders(distances)
    ]
    return float(np.mean(values))


# Small enough that every order of the ties can be tried.
rankings = st.lists(
    st.tuples(st.sampled_from([0, 3, 8]), st.booleans()), min_size=1, max_size=7
).filter(lambda rows: any(hit for _, hit in rows))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rankings)
def test_average_precision_is_the_mean_over_all_orders_of_ties(rows):
    distances, relevant = zip(*rows, strict=True)
    found = retrieval_metrics.average_precision(*counts(distances, relevant))
    np.testing.assert_allclose(found, [brute_average_precision(distances, relevant)], rtol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rankings, st.integers(1, 9))
def test_average_precision_at_a_cutoff_is_the_mean_over_all_orders_of_ties(rows, cutoff):
    distances, relevant = zip(*rows, strict=True)
    found = retrieval_metrics.average_precision(*counts(distances, relevant), cutoff)
    expected = brute_average_precision(distances, relevant, cutoff)
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rankings, st.integers(1, 9))
def test_precision_at_n_is_the_mean_over_all_orders_of_ties(rows, cutoff):
    distances, relevant = zip(*rows, strict=True)
    values = [
        sum(relevant[row] for row in order[:cutoff]) / cutoff for order in tied_orders(distances)
    ]
    found = retrieval_metrics.precision_at(*counts(distances, relevant), cutoff)
    np.testing.assert_allclose(found, [np.mean(values)], rtol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([0, 3, 8]), min_size=1, max_size=7), st.integers(1, 9))
def test_partner_rank_and_recall_are_the_means_over_all_orders_of_ties(distances, cutoff):
    """The partner is row 0."""
    places = np.array([order.index(0) + 1 for order in tied_orders(distances)])
    own = distances[0]
    closer = np.array([sum(d < own for d in distances)])
    tied = np.array([sum(d == own for d in distances)])
    np.testing.assert_allclose(retrieval_metrics.partner_rank(closer, tied), [places.mean()])
    recall = retrieval_metrics.partner_recall(closer, tied, cutoff)
    np.testing.assert_allclose(recall, [np.mean(places <= cutoff)])


def test_without_ties_it_is_the_average_precision_of_scikit_learn():
    rng = np.random.default_rng(0)
    bits = 400
    for _ in range(20):
        distances = rng.permutation(bits + 1)[:120]
        relevant = rng.random(120) < rng.uniform(0.05, 0.9)
        relevant[0] = True
        items = np.bincount(distances, minlength=bits + 1)[None, :]
        hits = np.bincount(distances[relevant], minlength=bits + 1)[None, :]
        found = retrieval_metrics.average_precision(items, hits)
        expected = average_precision_score(relevant, -distances)
        np.testing.assert_allclose(found, [expected], rtol=1e-12)


def test_long_rankings_agree_with_random_orders_of_the_ties():
    """The harmonic numbers far down the ranking: 20,000 rows at 9 distances."""
    rng = np.random.default_rng(1)
    distances = rng.binomial(BITS, 0.5, 20_000)
    relevant = rng.random(20_000) < 0.05 + 0.05 * (distances < 3)
    values = []
    for _ in range(30):
        order = np.lexsort((rng.random(20_000), distances))
        hits = np.cumsum(relevant[order])
        values.append(np.mean((hits / np.arange(1, 20_001))[relevant[order]]))
    found = retrieval_metrics.average_precision(*counts(distances, relevant))[0]
    assert abs(found - np.mean(values)) < 4 * np.std(values) / np.sqrt(30)


def test_counts_of_database_blocks_add_up():
    rng = np.random.default_rng(2)
    distances = rng.integers(0, BITS + 1, (5, 30))
    mask = rng.random((5, 30)) < 0.3
    whole = retrieval_metrics.distance_counts(distances, mask, BITS)
    parts = [
        retrieval_metrics.distance_counts(distances[:, rows], mask[:, rows], BITS)
        for rows in (slice(0, 7), slice(7, 8), slice(8, 30))
    ]
    np.testing.assert_array_equal(sum(parts), whole)
    expected = [
        [np.sum((row == d) & hit) for d in range(BITS + 1)]
        for row, hit in zip(distances, mask, strict=True)
    ]
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(
        retrieval_metrics.distance_counts(distances, None, BITS).sum(axis=1), np.full(5, 30)
    )


def test_perfect_and_worst_rankings_have_their_known_values():
    items, hits = counts([0, 1, 2, 3], [True, True, False, False])
    assert retrieval_metrics.average_precision(items, hits)[0] == pytest.approx(1)
    items, hits = counts([0, 1, 2, 3], [False, False, False, True])
    assert retrieval_metrics.average_precision(items, hits)[0] == pytest.approx(1 / 4)
    assert retrieval_metrics.average_precision(items, hits, 3)[0] == 0


def test_queries_without_relevant_rows_have_no_average_precision():
    items, hits = counts([0, 1, 1], [False, False, False])
    assert np.isnan(retrieval_metrics.average_precision(items, hits)).all()
    assert np.isnan(retrieval_metrics.average_precision(items, hits, 2)).all()
    precision, recall = retrieval_metrics.precision_recall(items, hits)
    assert np.isnan(recall).all()
    np.testing.assert_array_equal(precision[0, :3], [0, 0, 0])


def test_precision_and_recall_within_each_radius():
    rng = np.random.default_rng(3)
    distances = rng.integers(2, BITS + 1, (4, 25))
    relevant = rng.random((4, 25)) < 0.4
    items = retrieval_metrics.distance_counts(distances, None, BITS)
    hits = retrieval_metrics.distance_counts(distances, relevant, BITS)
    precision, recall = retrieval_metrics.precision_recall(items, hits)
    assert precision.shape == recall.shape == (4, BITS + 1)
    for q in range(4):
        for radius in range(BITS + 1):
            within = distances[q] <= radius
            if within.any():
                assert precision[q, radius] == pytest.approx(relevant[q][within].mean())
            else:
                assert np.isnan(precision[q, radius])
            share = (relevant[q] & within).sum() / relevant[q].sum()
            assert recall[q, radius] == pytest.approx(share)


def test_multi_hot_labels_are_relevant_where_they_share_one():
    queries = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=np.uint8)
    database = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=np.uint8)
    expected = [[False, True, False], [True, True, False], [False, False, False]]
    np.testing.assert_array_equal(retrieval_metrics.relevance(queries, database), expected)


@pytest.mark.parametrize("kind", [np.int64, np.dtypes.StringDType()])
def test_single_labels_are_relevant_where_they_are_equal(kind):
    queries, database = np.array([0, 3]).astype(kind), np.array([3, 0, 2]).astype(kind)
    expected = [[False, True, False], [True, False, False]]
    np.testing.assert_array_equal(retrieval_metrics.relevance(queries, database), expected)


def test_rows_without_a_label_are_relevant_to_nothing():
    for kind in (np.dtypes.StringDType(), "U5"):
        names = np.array(["owl", ""]).astype(kind)
        expected = [[True, False], [False, False]]
        np.testing.assert_array_equal(retrieval_metrics.relevance(names, names), expected)
    hot = np.array([[1, 0], [0, 0]])
    np.testing.assert_array_equal(retrieval_metrics.relevance(hot, hot), expected)


@pytest.mark.parametrize("kind", [np.int8, np.float32])
def test_only_positive_labels_count(kind):
    labels = np.array([[1, -1, -1], [-1, 1, -1]], dtype=kind)
    np.testing.assert_array_equal(retrieval_metrics.relevance(labels, labels), np.eye(2))


@pytest.mark.parametrize(
    ("labels", "rows", "remedy"),
    [
        ([[0, 1], [1, 0]], [], ""),
        ([[True, False]], [], ""),
        ([[0.0, 1.0]], [], ""),
        ([[0, 1], [-1, 1]], [1], "labels > 0"),
        ([[-1.0, 0.0, 1.0]], [0], "labels > 0"),
        ([[0.1, 0.9], [0, 1]], [0], "threshold"),
        ([[np.nan, 1.0]], [0], "multi-hot labels must be 0 or 1"),
        ([[3, -1], [0, 1], [2, 5]], [0, 2], "one column per class"),
        ([0, 3, 2.0], [], ""),
        ([0, -1, 2], [1], "integer of at least 0"),
        ([0.5, np.nan, 2, np.inf], [0, 1, 3], "integer of at least 0"),
        (["owl", ""], [], ""),
    ],
)
def test_labels_without_a_defined_relevance_are_named(labels, rows, remedy):
    found, problem = retrieval_metrics.invalid_labels(np.array(labels))
    assert found.tolist() == rows
    assert remedy in problem
    assert bool(problem) == bool(rows)
