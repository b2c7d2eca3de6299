"""Leaves, visits and candidates on small arrays, against SciPy and brute force."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from srch_dist.kernels.graph import leaves as kernels


def points(seed, n, dims=6):
    return np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 400), st.integers(4, 40), st.booleans(), st.integers(0, 2**31))
def test_parts_hold_every_point_once_and_are_neither_large_nor_tiny(n, size, equal, seed):
    x = points(seed, n)
    if equal:
        x[: n // 2] = x[0]
    parts = kernels.split_points(x, size)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= size
    if n >= size:
        assert min(sizes) >= size // 2
    for part in parts:
        assert (np.diff(part) > 0).all()


def test_points_of_a_part_are_near_each_other():
    x = points(0, 4000)
    parts = kernels.split_points(x, 64)
    spread = np.mean([cdist(x[part], x[part], "sqeuclidean").mean() for part in parts])
    assert spread < 0.4 * cdist(x[:500], x[:500], "sqeuclidean").mean()


def test_k_means_finds_separate_groups():
    rng = np.random.default_rng(0)
    middles = 20 * np.eye(5, dtype=np.float32)
    x = np.repeat(middles, 40, axis=0) + rng.normal(size=(200, 5)).astype(np.float32)
    centres = kernels.k_means(x, 5)
    assert cdist(centres, middles).min(axis=1).max() < 1
    assert len(kernels.k_means(x[:3], 5)) == 3


def test_centroids_are_means_with_half_of_their_squared_norm():
    x, ends = points(1, 30), np.array([0, 4, 5, 30])
    found = kernels.centroids(x, ends)
    means = np.stack([x[low:high].mean(axis=0) for low, high in pairwise(ends)])
    np.testing.assert_allclose(found[:, :-1], means, rtol=1e-5)
    np.testing.assert_allclose(found[:, -1], (means**2).sum(axis=1) / 2, rtol=1e-5)


def test_nearest_nodes_are_those_of_all_distances():
    nodes, own = kernels.with_norms(points(3, 40)), np.arange(5, 25)
    found = kernels.nearest_nodes(nodes, own, 7)
    expected = np.argsort(cdist(nodes[own, :-1], nodes[:, :-1]), axis=1)[:, :7]
    np.testing.assert_array_equal(found, np.sort(expected))


def test_a_node_is_among_its_nearest_if_all_are_equal():
    nodes = kernels.with_norms(np.ones((40, 3), dtype=np.float32))
    found = kernels.nearest_nodes(nodes, np.arange(40), 3)
    assert (found == np.arange(40)[:, None]).any(axis=1).all()


@pytest.mark.parametrize("count", [1, 5, 40])
def test_rows_choose_their_own_node_and_the_nearest_others(count):
    x, nodes = kernels.with_norms(points(2, 50)), kernels.with_norms(points(3, 40))
    home = np.random.default_rng(0).integers(0, 40, 50)
    found = kernels.nearest_centroids(x, nodes, count, home)
    squared = cdist(x[:, :-1], nodes[:, :-1], "sqeuclidean")
    squared[np.arange(50), home] = -1
    np.testing.assert_array_equal(np.sort(found), np.sort(np.argsort(squared, axis=1)[:, :count]))


def test_keys_of_visits_are_sorted_by_distance_to_the_leaves_of_chosen_nodes():
    rng = np.random.default_rng(0)
    x = kernels.with_norms(points(2, 60))
    nodes = [kernels.with_norms(points(10 + g, size)) for g, size in enumerate((3, 32, 8, 5))]
    chosen = np.stack([rng.permutation(4)[:3] for _ in range(60)])
    own = rng.integers(0, 3, 60)
    leaf = np.array(
        [rng.integers(0, len(nodes[row[i]])) for row, i in zip(chosen, own, strict=True)]
    )
    keys = kernels.visit_keys(x, chosen, nodes.__getitem__, (own, leaf))
    assert keys.shape == (60, 3 * kernels.NODE_LEAVES)
    position = np.sort(keys, axis=1) & ((1 << kernels.VISIT_BITS) - 1)
    for row, found in enumerate(position):
        squared = {
            column * kernels.NODE_LEAVES + i: float(((x[row, :-1] - one[:-1]) ** 2).sum())
            for column, g in enumerate(chosen[row])
            for i, one in enumerate(nodes[g])
        }
        assert found[0] == own[row] * kernels.NODE_LEAVES + leaf[row]
        lengths = [squared[one] for one in found[1 : len(squared)].tolist()]
        np.testing.assert_allclose(lengths, sorted(lengths), rtol=2e-3)
        assert len(set(found[: len(squared)].tolist())) == len(squared)
        assert (np.sort(keys[row])[len(squared) :] == kernels.ABSENT).all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(2, 700), st.integers(1, 12), st.integers(0, 2**31))
def test_members_find_their_nearest_members(m, k, seed):
    x = kernels.with_norms(points(seed, m + 5, 4))
    numbers = np.random.default_rng(seed).permutation(m + 5) + 10
    members = np.arange(m + 5)[5:]
    found = kernels.search_members(x, numbers, members, k)
    count = min(k, m - 1)
    squared = cdist(x[5:, :-1], x[5:, :-1], "sqeuclidean") + np.diag(np.full(m, np.inf))
    assert found.shape == (m, count)
    picked = kernels.candidate_numbers(found)
    place = np.searchsorted(np.sort(numbers[5:]), picked)
    columns = np.argsort(numbers[5:])[place]
    reached = np.sort(np.take_along_axis(squared, columns, axis=1), axis=1)
    # A key keeps 13 bits of the distance, so near ties may be exchanged.
    np.testing.assert_allclose(reached, np.sort(squared, axis=1)[:, :count], rtol=1e-3, atol=1e-5)
    assert (picked != numbers[5:, None]).all()


def test_duplicates_are_found_and_a_row_is_not_its_own_neighbour():
    x = points(0, 40)
    x[10:30] = x[10]
    found = kernels.search_members(kernels.with_norms(x), np.arange(40), np.arange(40), 10)
    numbers = kernels.candidate_numbers(found)
    assert ((numbers[10:30] >= 10) & (numbers[10:30] < 30)).all()
    assert (numbers != np.arange(40)[:, None]).all()


def test_more_neighbours_need_more_bits_for_members():
    assert kernels.member_bits(10) == 10
    for k in (10, 300, 5000):
        assert 1 << kernels.member_bits(k) > 2 * kernels.leaf_rows(k) - 2
        assert kernels.leaf_rows(k) // 2 > k


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_nearest_candidates_are_distinct_and_sorted_out_by_distance(count, seed):
    rng = np.random.default_rng(seed)
    numbers, distances = rng.integers(0, 12, (30, 9)), rng.integers(0, 50, 12)
    packed = (distances[numbers] << 32) | numbers
    packed[rng.random(packed.shape) < 0.2] = kernels.NO_CANDIDATE
    found = kernels.candidate_numbers(kernels.nearest_candidates(packed, count))
    for row, kept in zip(kernels.candidate_numbers(packed), found, strict=True):
        expected = sorted({(distances[one], one) for one in row if one >= 0})[:count]
        expected = [number for _, number in expected] + [-1] * (count - len(expected))
        assert sorted(kept.tolist()) == sorted(expected)
