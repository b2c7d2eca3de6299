"""Clusters of a modality: split and packed; which neighbours an overlap can reach."""

import numpy as np
import pytest

from srch_dist.algorithm.neighbour_graph.recall import Sample
from srch_dist.algorithm.neighbour_graph.routing import coverage, split_centres
from srch_dist.kernels.clusters import nearest_centres
from srch_dist.kernels.graph.neighbours import Neighbours
from tests.helpers import reference
from tests.helpers.prepared import read_array

N, K = 240, 4


@pytest.fixture(scope="module")
def run(prepare):
    graph = {"k": K, "method": "partitioned", "cluster_rows": 40, "overlap_max": 3}
    return prepare(reference.paired_features(0, N, (9, 270)), partition_rows=70, graph=graph)


def test_rows_are_sent_to_different_clusters(run):
    for g in run.modalities:
        routes = read_array(run.directory.routes(g))
        assert routes.shape == (N, 3)
        assert (routes[:, 0] >= 0).all()
        assert routes.max() + 1 == run.report.modalities[g].clusters
        for row in routes:
            used = row[row >= 0]
            assert len(set(used)) == len(used)


def test_no_cluster_is_far_larger_than_asked_for(run):
    for g in run.modalities:
        home = np.bincount(read_array(run.directory.routes(g))[:, 0])
        assert home.max() <= 1.25 * 40
        assert home.min() > K


def test_coverage_counts_neighbours_that_share_a_cluster(run):
    g = run.modalities[1]
    positions = np.arange(0, N, 7)
    near = reference.nearest(run.features()[g], K)[positions]
    order = read_array(run.directory.order)
    sample = Sample(positions, Neighbours(np.zeros(near.shape), order[near]))
    routes = read_array(run.directory.routes(g))
    for m, share in enumerate(coverage(run.directory, g, sample, 3), start=1):
        sets = [set(row[:m]) - {-1} for row in routes]
        found = [
            bool(sets[i] & sets[j]) for i, row in zip(positions, near, strict=True) for j in row
        ]
        assert share == pytest.approx(np.mean(found))


def test_large_clusters_are_split_and_every_point_keeps_a_centre():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(500, 6)), 20 + rng.normal(size=(50, 6))])
    start = np.stack([points[:500].mean(axis=0), points[500:].mean(axis=0), np.full(6, 1e3)])
    centres, sizes = split_centres(points, start, 100)
    np.testing.assert_array_equal(sizes, np.bincount(nearest_centres(points, centres, 1)[:, 0]))
    assert sizes.max() <= 100
    assert sizes.sum() == 550
    # The far cluster was small enough, and the one without points is gone.
    assert (centres == start[1]).all(axis=1).any()
    assert centres.max() < 100


def test_points_that_are_all_the_same_are_not_split():
    centres, sizes = split_centres(np.ones((90, 3)), np.ones((1, 3)), 20)
    np.testing.assert_array_equal(centres, [[1, 1, 1]])
    np.testing.assert_array_equal(sizes, [90])
