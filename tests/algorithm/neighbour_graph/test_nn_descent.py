"""Approximate neighbours; compiling the search takes some 25 s, once in this process."""

import numpy as np
import pytest
import zarr
from scipy.spatial.distance import cdist

from srch_dist.algorithm.neighbour_graph import nn_descent
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
