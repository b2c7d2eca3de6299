"""Row order: training runs in cluster order, results are in the order of the store."""

import json

import numpy as np
import pytest
import zarr

from srch_dist import evaluate_model
from srch_dist.kernels.clusters import order_clusters
from srch_dist.kernels.packed_codes import random_codes
from tests.helpers import reference
from tests.helpers.prepared import read_array
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = pytest.mark.slow

N, K = 300, 6
ORDERED = {"k": K, "method": "exact", "order_rows": 15}
PLAIN = {**ORDERED, "order_rows": 10_000}


def features():
    made = reference.paired_features(3, N, (14, 300))
    for x in made.values():
        x[200:230] = x[20:50]
    return made


@pytest.fixture(scope="module")
def runs(prepare):
    """The same data in cluster order with small partitions, and in store order."""
    options = {"bits": 16, "method": {"iterations": 4}}
    ordered = prepare(features(), graph=ORDERED, partition_rows=77, blocks=2, **options)
    return ordered, prepare(features(), graph=PLAIN, **options)


def order_of(run):
    return read_array(run.directory.order)


def test_order_is_a_permutation_that_places_neighbours_together(runs):
    ordered, plain = runs
    np.testing.assert_array_equal(np.sort(order_of(ordered)), np.arange(N))
    np.testing.assert_array_equal(order_of(plain), np.arange(N))

    def distance_to_neighbours(run):
        x, y = np.nonzero(run.weights().sum(axis=0))
        return np.abs(x - y).mean()

    assert distance_to_neighbours(ordered) < 0.6 * distance_to_neighbours(plain)


def test_features_and_first_codes_follow_the_order(runs):
    ordered, plain = runs
    order = order_of(ordered)
    for g, x in plain.features().items():
        np.testing.assert_array_equal(ordered.features()[g], x[order])
    np.testing.assert_array_equal(
        ordered.first_codes, random_codes(0, order, ordered.config.loop_bits)
    )
    np.testing.assert_array_equal(ordered.first_codes, plain.first_codes[order])


def test_graph_is_the_same_in_any_order(runs):
    """The data has many ties; they are broken by row number, not by position."""
    ordered, plain = runs
    order = order_of(ordered)
    np.testing.assert_array_equal(ordered.weights(), plain.weights()[:, order][:, :, order])
    assert ordered.report == plain.report


def test_learned_codes_are_the_same_in_any_order(runs):
    ordered, _ = runs
    learned = [run.learn() for run in runs]
    codes = [run.codes(last.iteration) for run, last in zip(runs, learned, strict=True)]
    np.testing.assert_array_equal(codes[0], codes[1][order_of(ordered)])
    assert len(np.unique(codes[1], axis=0)) > 20


@pytest.mark.parametrize(
    ("rows", "cluster_rows", "expected"),
    [(1525, 4096, 1), (60_000, 4096, 1), (151_000, 4096, 36), (10**8, 4096, 1024), (90, 5, 18)],
)
def test_number_of_clusters_follows_from_the_rows(rows, cluster_rows, expected):
    assert order_clusters(rows, cluster_rows) == expected


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs on one store with held-out rows: in cluster order, and in store order."""
    folder = tmp_path_factory.mktemp("runs")
    store = make_store(folder, 30, **make_pairs(rows=240))
    found = {}
    for name, order_rows in (("ordered", 8), ("plain", 10_000)):
        graph = {"k": 5, "order_rows": order_rows}
        found[name] = train_here(store.path, folder / name, graph=graph, partition_rows=50).run
    return store, found["ordered"], found["plain"]


def test_codes_and_rows_of_a_run_are_in_the_order_of_the_store(trained):
    store, ordered, plain = trained
    rows = zarr.open_array(ordered.rows, mode="r")[:]
    np.testing.assert_array_equal(rows, np.flatnonzero(store.read("split") == 0))
    codes = zarr.open_array(ordered.codes, mode="r")[:]
    np.testing.assert_array_equal(codes, zarr.open_array(plain.codes, mode="r")[:])
    last = ordered.summary()["iterations"]
    assert not np.array_equal(codes, read_array(ordered.checkpoint(last, "codes")))


def test_codes_are_written_in_store_order_by_tasks_of_any_size(trained, tmp_path, monkeypatch):
    store, ordered, _ = trained
    monkeypatch.setattr("srch_dist.algorithm.encoders.final_codes.STORE_ORDER_BYTES", 2)
    graph = {"k": 5, "order_rows": 8}
    again = train_here(store.path, tmp_path / "a", graph=graph, partition_rows=13).run
    codes = zarr.open_array(again.codes, mode="r")
    assert codes.chunks[0] == 13
    np.testing.assert_array_equal(codes[:], zarr.open_array(ordered.codes, mode="r")[:])


def test_evaluation_does_not_depend_on_the_order(trained):
    store, ordered, plain = trained
    scores = [evaluate_model(run.path, store.path) for run in (ordered, plain)]
    assert json.dumps(scores[0]) == json.dumps(scores[1])


@pytest.mark.parametrize("option", ["rotate", "encoder"])
def test_sampled_rows_are_the_same_in_any_order(trained, tmp_path, option):
    store = trained[0]
    method = {"rotate": {"rotate": True}, "encoder": {"encoder": "anchors"}}[option]
    found = []
    for order_rows in (8, 10_000):
        graph = {"k": 5, "order_rows": order_rows}
        run = train_here(
            store.path,
            tmp_path / f"{order_rows}",
            graph=graph,
            method={"anchors": 40, "iterations": 3, **method},
            evaluate=False,
            keep_work=True,
        ).run
        rows = read_array(run.order)[read_array(run.sample("rows"))]
        codes = zarr.open_array(run.codes, mode="r")[:]
        found.append((set(rows.tolist()), codes))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
