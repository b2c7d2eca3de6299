"""Approximate neighbours; compiling the search takes some 25 s, once in this process."""

import numpy as np
import pytest
import zarr
from scipy.spatial.distance import cdist

from srch_dist.algorithm.neighbour_graph import nn_descent
from srch_dist.kernels.graph.neighbours import principal_subspace
from tests.helpers import reference

pytestmark = pytest.mark.slow

K, N = 8, 1200


def features(seed=0):
    """Clustered rows, of which 150 are repeated and 30 are all the same."""
    made = reference.paired_features(seed, N, (16, 6), classes=12)
    for x in made.values():
        x[1000:1150] = x[:150]
        x[600:630] = x[600]
    return made


@pytest.fixture(scope="module")
def run(prepare):
    return prepare(features(), graph={"k": K, "method": "pynndescent"}, partition_rows=500)


def found(run, modality, kind):
    return zarr.open_array(str(run.directory.neighbours(modality, kind)), mode="r")[:]


def test_recall_is_high_and_reported(run):
    for g, x in run.features().items():
        exact = np.sort(reference.squared_distances(x) + np.diag(np.full(N, np.inf)), axis=1)
        measured = np.mean(found(run, g, "distances") <= exact[:, [K - 1]] * (1 + 1e-5) ** 2)
        assert measured > 0.97
        assert run.report.modalities[g].method == "pynndescent"
        # 500 of the rows are sampled.
        assert run.report.modalities[g].recall == pytest.approx(measured, abs=0.01)


def test_every_row_has_k_distinct_neighbours_other_than_itself(run):
    for g in run.modalities:
        rows = found(run, g, "rows")
        assert rows.min() >= 0
        assert rows.max() < N
        assert not (rows == np.arange(N)[:, None]).any()
        assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()


def test_distances_are_those_of_the_neighbours_in_ascending_order(run):
    for g, x in run.features().items():
        rows, distances = found(run, g, "rows"), found(run, g, "distances")
        exact = ((x[:, None, :] - x[rows]) ** 2).sum(axis=2)
        np.testing.assert_allclose(distances, exact, rtol=1e-10)
        assert (np.diff(distances, axis=1) >= 0).all()
        tied = np.diff(distances, axis=1) == 0
        assert tied.any()
        assert (np.diff(rows, axis=1)[tied] > 0).all()


def test_search_is_reproducible_and_does_not_depend_on_partitions(run, prepare):
    again = prepare(features(), graph={"k": K, "method": "pynndescent"}, partition_rows=170)
    for g in run.modalities:
        np.testing.assert_array_equal(found(run, g, "rows"), found(again, g, "rows"))
    np.testing.assert_array_equal(run.weights(), again.weights())


def test_clusters_are_searched_by_descent_too(run, prepare, monkeypatch):
    monkeypatch.setattr("srch_dist.algorithm.neighbour_graph.partitioned._EXACT_ROWS", 50)
    graph = {"k": K, "method": "partitioned", "cluster_rows": 400}
    found_twice = []
    for size in (500, 333):
        other = prepare(features(), graph=graph, partition_rows=size)
        found_twice.append([found(other, g, "rows") for g in other.modalities])
        for g, report in other.report.modalities.items():
            assert report.clusters >= 3
            assert report.recall > 0.95
            # Approximate here, exact in the other test: duplicates are found all the same.
            assert report.duplicates == run.report.modalities[g].duplicates
    for left, right in zip(*found_twice, strict=True):
        np.testing.assert_array_equal(left, right)


def test_rows_that_the_descent_loses_are_searched_exactly(monkeypatch):
    x = np.random.default_rng(0).normal(size=(300, 6))
    numbers = np.random.default_rng(1).permutation(300)
    lost = np.arange(0, 300, 7)
    whole = nn_descent._candidates(lambda: x, K + 6, 0).copy()
    whole[lost, K - 1 :] = -1
    monkeypatch.setattr(nn_descent, "_candidates", lambda *_: whole)
    completed = nn_descent.descend(lambda: x, numbers, K, 5, 0)
    exact = numbers[reference.nearest(x, K)]
    np.testing.assert_array_equal(np.sort(completed.rows[lost]), np.sort(exact[lost]))


def curved(rows, dims=128, latent=10):
    """Rows (rows, dims) on a curved manifold of few dimensions, with noise."""
    rng = np.random.default_rng(3)
    waves = np.sin(rng.normal(size=(rows, latent)) @ rng.normal(size=(latent, 40)) / latent**0.5)
    return waves @ rng.normal(size=(40, dims)) + 0.1 * rng.normal(size=(rows, dims))


def test_wide_rows_are_searched_in_fewer_dimensions_and_measured_in_all(monkeypatch):
    x, numbers = curved(6000), np.random.default_rng(1).permutation(6000)
    seen, reduced = [], nn_descent._reduced

    def watch(features):
        seen.append(reduced(features).shape[1])
        return reduced(features)

    monkeypatch.setattr(nn_descent, "_reduced", watch)
    found = nn_descent.descend(lambda: x, numbers, K, 7, 0)
    assert seen == [32]
    squared = cdist(x, x, "sqeuclidean")
    position = np.argsort(numbers)[found.rows]
    np.testing.assert_allclose(
        found.distances, np.take_along_axis(squared, position, axis=1), rtol=1e-9
    )
    kth = np.sort(squared + np.diag(np.full(6000, np.inf)), axis=1)[:, [K - 1]]
    assert np.mean(found.distances <= kth * (1 + 1e-5)) > 0.97


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_principal_subspace_against_singular_vectors(share):
    x = np.random.default_rng(0).normal(size=(500, 96)) * np.linspace(4, 0.1, 96) + 3.0
    directions = principal_subspace(x, share)
    strengths = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    wanted = np.searchsorted(np.cumsum(strengths) / strengths.sum(), share) + 1
    assert directions.shape == (96, min(96, -(-wanted // 32) * 32))
    kept = ((x - x.mean(axis=0)) @ directions).var(axis=0).sum() / x.var(axis=0).sum()
    assert kept >= share - 1e-12
    best = strengths[: directions.shape[1]].sum() / strengths.sum()
    assert kept == pytest.approx(best)


def test_rows_that_are_all_the_same_have_a_subspace():
    directions = principal_subspace(np.ones((40, 64), dtype=np.float32), 0.9)
    np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-12)
