from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from srch_dist.kernels.graph import neighbours
from srch_dist.kernels.graph.neighbours import (
    Neighbours,
    candidate_distances,
    keep_nearest,
    keep_nearest_columns,
    merge_exact,
)
from tests.helpers import reference


def search(points, k, cuts=(), order=None, query_cuts=()):
    """Neighbours of all points, merged block by block between ``cuts``."""
    bounds = [0, *cuts, len(points)]
    blocks = list(pairwise(bounds))
    ends = [0, *query_cuts, len(points)]
    found = []
    for low, high in pairwise(ends):
        best = Neighbours.empty(high - low, k)
        rows = np.arange(low, high)
        for b in order if order is not None else range(len(blocks)):
            start, stop = blocks[b]
            best = merge_exact(
                best, points[low:high], rows, points[start:stop], np.arange(start, stop)
            )
        found.append(best)
    return Neighbours(
        np.concatenate([part.distances for part in found]),
        np.concatenate([part.rows for part in found]),
    )


def assert_same(left, right):
    np.testing.assert_array_equal(left.rows, right.rows)
    np.testing.assert_array_equal(left.distances, right.distances)


def with_duplicates(dtype):
    """Random unit rows, a quarter of them repeated, and rows that differ in the last places."""
    rng = np.random.default_rng(7)
    points = reference.normalise(rng.normal(size=(40, 6)), center=False)
    points = np.concatenate([points, points[::4], points[:10] * (1 + 1e-7)])
    return points[rng.permutation(len(points))].astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_equal_those_of_scikit_learn(dtype):
    points = np.random.default_rng(0).normal(size=(300, 10)).astype(dtype)
    model = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(points.astype(np.float64))
    distances, rows = model.kneighbors()
    found = search(points, 7)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances**2, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("side", [2, 3])
def test_ties_go_to_the_lower_row(dtype, side):
    points = np.random.default_rng(side).integers(0, side, (90, 4)).astype(dtype)
    found = search(points, 8)
    np.testing.assert_array_equal(found.rows, reference.nearest(points.astype(float), 8))


def test_neighbours_are_exact_where_float32_products_cannot_tell_points_apart():
    rng = np.random.default_rng(4)
    points = 100.0 + 1e-3 * rng.normal(size=(120, 5))
    np.testing.assert_array_equal(search(points, 6).rows, reference.nearest(points, 6))


def test_neighbours_do_not_depend_on_the_scale_of_the_features():
    points = np.random.default_rng(5).normal(size=(80, 5))
    expected = search(points, 6).rows
    for exponent in (-30, 30):
        np.testing.assert_array_equal(search(np.ldexp(points, exponent), 6).rows, expected)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from([np.float32, np.float64]))
def test_any_split_into_blocks_gives_identical_neighbours(data, dtype):
    points = with_duplicates(dtype)
    places = st.lists(st.integers(1, len(points) - 1), max_size=6, unique=True).map(sorted)
    cuts, query_cuts = data.draw(places), data.draw(places)
    order = data.draw(st.permutations(range(len(cuts) + 1)))
    assert_same(search(points, 5, cuts, order, query_cuts), search(points, 5))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 200))
def test_any_tile_size_gives_identical_neighbours(query_tile, row_tile, refined):
    points = with_duplicates(np.float64)
    expected = search(points, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "QUERY_TILE", query_tile)
        patch.setattr(neighbours, "ROW_TILE", row_tile)
        patch.setattr(neighbours, "REFINE_VALUES", refined)
        assert_same(search(points, 5, cuts=(31,)), expected)


def test_a_row_is_not_its_own_neighbour_but_its_duplicate_is():
    points = np.random.default_rng(0).normal(size=(20, 3))
    points[13] = points[2]
    found = search(points, 4)
    assert not (found.rows == np.arange(20)[:, None]).any()
    assert found.rows[2, 0] == 13
    assert found.rows[13, 0] == 2
    assert found.distances[2, 0] == 0


def test_missing_neighbours_are_marked():
    found = search(np.random.default_rng(0).normal(size=(3, 2)), 5)
    np.testing.assert_array_equal(found.rows[:, 2:], -1)
    assert np.isinf(found.distances[:, 2:]).all()
    np.testing.assert_array_equal(np.sort(found.rows[:, :2]), [[1, 2], [0, 2], [0, 1]])


def test_candidate_distances_are_those_of_each_pair():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(7, 4))
    i, j = rng.integers(0, 9, 30), rng.integers(0, 7, 30)
    expected = ((left.astype(np.float64)[i] - right[j]) ** 2).sum(axis=1)
    np.testing.assert_allclose(candidate_distances(left, i, right, j), expected, rtol=1e-14)


def test_keep_nearest_orders_by_distance_then_row_and_fills_up():
    found = keep_nearest(
        owners=np.array([2, 0, 2, 2, 0]),
        distances=np.array([1.0, 3.0, 1.0, 0.5, 2.0]),
        rows=np.array([9, 4, 8, 7, 6]),
        n=3,
        k=2,
    )
    np.testing.assert_array_equal(found.rows, [[6, 4], [-1, -1], [7, 8]])
    np.testing.assert_array_equal(found.distances, [[2, 3], [np.inf, np.inf], [0.5, 1]])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_a_table_of_candidates_gives_the_neighbours_of_the_list(seed, k):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 9, (12, 8))
    # One distance a row number, with ties, so that repeated candidates are at one distance.
    distances = rng.integers(0, 4, 10)[rows].astype(float)
    found = keep_nearest_columns(distances, rows, k)
    once = {
        (owner, row): distance
        for owner in range(12)
        for row, distance in zip(rows[owner], distances[owner], strict=True)
        if row >= 0
    }
    owners, kept = np.array(list(once), dtype=np.int64).reshape(-1, 2).T
    assert_same(found, keep_nearest(owners, np.array(list(once.values())), kept, 12, k))
