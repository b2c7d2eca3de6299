"""Coarse clusters on small arrays, against scikit-learn and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from srch_dist.kernels.clusters import (
    bisection_order,
    gaussian_projection,
    nearest_centres,
    slice_bounds,
)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_nearest_centres_are_those_of_all_distances(count):
    rng = np.random.default_rng(0)
    points, centres = rng.normal(size=(200, 7)), rng.normal(size=(9, 7))
    expected = np.argsort(pairwise_distances(points, centres), axis=1)[:, :count]
    np.testing.assert_array_equal(nearest_centres(points, centres, count), expected)


def test_equally_near_centres_come_in_their_order():
    centres = np.array([[3.0, 0], [0, 1], [1, 0], [0, 1], [-1, 0]])
    found = nearest_centres(np.zeros((2, 2)), centres, 5)
    np.testing.assert_array_equal(found, [[1, 2, 3, 4, 0]] * 2)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 60), max_size=5).map(sorted))
def test_a_rows_centres_do_not_depend_on_the_rows_beside_it(cuts):
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(13, 24))
    points = np.concatenate([rng.normal(size=(40, 24)), (centres[:10] + centres[1:11]) / 2])
    points = np.concatenate([points, points[:10]]).astype(np.float32)
    parts = [nearest_centres(part, centres, 3) for part in np.split(points, cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), nearest_centres(points, centres, 3))


def test_projection_keeps_distances_about_as_they_are_and_follows_from_the_seed():
    points = np.random.default_rng(0).normal(size=(60, 900))
    matrix = gaussian_projection(3, 900, 256)
    before, after = pairwise_distances(points), pairwise_distances(points @ matrix)
    far = ~np.eye(60, dtype=bool)
    assert np.abs(after[far] / before[far] - 1).max() < 0.25
    np.testing.assert_array_equal(matrix, gaussian_projection(3, 900, 256))
    assert not np.array_equal(matrix, gaussian_projection(4, 900, 256))


def test_bisection_order_ranks_every_cluster_and_keeps_near_ones_together():
    rng = np.random.default_rng(0)
    blobs = np.repeat(10 * rng.normal(size=(4, 3)), 8, axis=0) + 0.1 * rng.normal(size=(32, 3))
    shuffled = rng.permutation(32)
    rank = bisection_order(blobs[shuffled])
    np.testing.assert_array_equal(np.sort(rank), np.arange(32))
    visited = (shuffled // 8)[np.argsort(rank)]
    assert np.count_nonzero(np.diff(visited)) == 3


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
def test_slices_of_sorted_parts_make_up_the_sorted_whole(parts, clusters, seed):
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, clusters, rng.integers(0, 9)) for _ in range(parts)]
    numbers = np.split(np.arange(sum(map(len, labels))), np.cumsum(list(map(len, labels)))[:-1])
    own = [n[np.argsort(x, kind="stable")] for n, x in zip(numbers, labels, strict=True)]
    whole = np.argsort(np.concatenate(labels), kind="stable")
    starts = np.unique([0, *rng.integers(0, len(whole) + 1, 3), len(whole)])
    counts = np.array([np.bincount(x, minlength=clusters) for x in labels])
    bounds = np.stack(list(slice_bounds(iter(counts), counts.sum(axis=0), starts)), axis=1)
    for i in range(len(starts) - 1):
        slices = [rows[bounds[i, p] : bounds[i + 1, p]] for p, rows in enumerate(own)]
        assert set(np.concatenate(slices)) == set(whole[starts[i] : starts[i + 1]])
