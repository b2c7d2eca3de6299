"""MAP of real-valued distances, in expectation over random order among ties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pipelines.compare.scoring import real_average_precision


def average_precision(relevant):
    hits = np.cumsum(relevant)
    return np.sum(hits / np.arange(1, len(relevant) + 1) * relevant) / np.sum(relevant)


def test_ties_are_the_mean_over_all_their_orders():
    distance = np.array([0, 1, 1, 1, 2, 2, 3])
    relevant = np.array([0, 1, 0, 1, 1, 0, 1])
    orders = [
        [0, *middle, *last, 6]
        for middle in permutations((1, 2, 3))
        for last in permutations((4, 5))
    ]
    expected = np.mean([average_precision(relevant[list(order)]) for order in orders])
    shuffled = np.random.default_rng(0).permutation(7)
    precision = real_average_precision(
        distance[None, shuffled].astype(float), relevant[None, shuffled] > 0
    )
    assert precision[0] == pytest.approx(expected)


def test_distinct_distances_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    distances, relevant = rng.random((5, 40)), rng.random((5, 40)) < 0.3
    oracle = [average_precision_score(r, -d) for d, r in zip(distances, relevant, strict=True)]
    np.testing.assert_allclose(real_average_precision(distances, relevant), oracle)


def test_a_query_without_relevant_items_has_no_score():
    assert np.isnan(real_average_precision(np.ones((1, 3)), np.zeros((1, 3), dtype=bool)))[0]
