import importlib
import os
import shutil
from unittest.mock import Mock

import distributed
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from srch_dist.algorithm.neighbour_graph import build, nn_descent
from srch_dist.runtime import workers
from srch_dist.runtime.cluster import connect
from srch_dist.train.resume import resume_graph
from tests.helpers import reference

pytestmark = pytest.mark.cluster

K = 5
TWO, THREE = (12, 9), (10, 7, 14)


def graphs_of(features, symmetry="union", k=K):
    normalised = [reference.normalise(x) for x in features.values()]
    return [reference.adjacency(reference.nearest(x, k), symmetry) for x in normalised]


def dense_weights(graph):
    """C of Eq. 6 as (n, n)."""
    result = np.zeros(graph.shape)
    i, j = reference.edges_of(graph)
    result[i, j] = result[j, i] = reference.edge_weights(graph)
    return result


def options(symmetry="union", k=K, **more):
    return {"graph": {"k": k, "symmetry": symmetry, "method": "exact"}, **more}


@pytest.mark.parametrize("symmetry", ["union", "mutual"])
@pytest.mark.parametrize("dims", [TWO, THREE], ids=["two", "three"])
def test_graph_holds_the_edges_and_weights_of_equations_1_and_6(prepare, symmetry, dims):
    features = reference.paired_features(0, 90, dims)
    run = prepare(features, **options(symmetry, partition_rows=40, blocks=2))
    expected = [dense_weights(graph) for graph in graphs_of(features, symmetry)]
    np.testing.assert_array_equal(run.weights() > 0, np.stack(expected) > 0)
    np.testing.assert_allclose(run.weights(), expected, rtol=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(11, 100), st.integers(1, 5), st.sampled_from(["float32", "float64"]))
def test_no_partitioning_changes_the_graph(prepare, partition_rows, blocks, precision):
    features = reference.paired_features(1, 90, TWO)
    features["m0"][60:] = features["m0"][:30]
    cut = options(partition_rows=partition_rows, blocks=blocks, precision=precision)
    run, whole = prepare(features, **cut), prepare(features, **options(precision=precision))
    np.testing.assert_array_equal(run.weights(), whole.weights())
    assert run.report == whole.report


@pytest.mark.parametrize("symmetry", ["union", "mutual"])
def test_report_counts_what_the_dense_graphs_hold(prepare, symmetry):
    features = reference.paired_features(0, 90, TWO)
    report = prepare(features, **options(symmetry, partition_rows=40, blocks=2)).report
    graphs = graphs_of(features, symmetry)
    either = np.logical_or.reduce(graphs)
    assert report.components == connected_components(either)[0]
    for (g, x), graph in zip(features.items(), graphs, strict=True):
        found = report.modalities[g]
        directed = reference.adjacency(reference.nearest(reference.normalise(x), K), "mutual").sum()
        assert found.edges == np.triu(graph).sum()
        assert found.mean_degree == pytest.approx(graph.sum() / 90)
        assert found.isolated == np.sum(~graph.any(axis=1))
        assert found.mutual == pytest.approx(directed / (90 * K))
        assert found.duplicates == 0
        assert found.recall == 1.0
        assert found.method == "exact"
        degrees = np.minimum(graph.sum(axis=1), 8 * K)
        np.testing.assert_array_equal(found.degrees, np.bincount(degrees, minlength=8 * K + 1))


def test_duplicates_are_neighbours_and_counted(prepare):
    features = reference.paired_features(2, 60, TWO)
    for x in features.values():
        x[[7, 50]] = x[3]
    features["m1"][20] = features["m1"][10]
    run = prepare(features, **options(partition_rows=25, blocks=2))
    assert run.report.modalities["m0"].duplicates == 3
    assert run.report.modalities["m1"].duplicates == 5
    weights = run.weights()
    assert (weights[:, 3, [7, 50]] > 0).all()
    assert weights[1, 10, 20] > 0


def test_more_duplicates_than_neighbours_are_linked_to_the_lowest_rows(prepare):
    features = reference.paired_features(2, 60, TWO)
    features["m0"][20:40] = features["m0"][20]
    run = prepare(features, **options(partition_rows=25, blocks=2))
    assert run.report.modalities["m0"].duplicates == 20
    linked = np.flatnonzero(run.weights()[0, 39])
    np.testing.assert_array_equal(linked, np.arange(20, 20 + K))


def hub_features():
    """Rows 0 to 19 near each other; row 20 on its own in both modalities."""
    rng = np.random.default_rng(0)
    features = {}
    for g, d in (("m0", 6), ("m1", 5)):
        x = 0.2 * rng.normal(size=(21, d)) + np.eye(d)[0]
        x[20] = -20 * np.eye(d)[1]
        features[g] = x
    return features


def test_mutual_graph_leaves_isolated_rows_that_are_counted(prepare):
    run = prepare(hub_features(), **options("mutual", k=3, partition_rows=8, blocks=3))
    graphs = graphs_of(hub_features(), "mutual", k=3)
    either = graphs[0] | graphs[1]
    assert not either[20].any()
    assert not run.weights()[:, 20].any()
    for g, graph in zip(run.modalities, graphs, strict=True):
        assert run.report.modalities[g].isolated == np.sum(~graph.any(axis=1)) > 0
    assert run.report.components == connected_components(either)[0] > 1


def test_separate_clusters_are_separate_components(prepare):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 12)
    features = {f"m{i}": 5 * np.eye(6)[groups] + 0.01 * rng.normal(size=(48, 6)) for i in (0, 1)}
    run = prepare(features, **options(partition_rows=10, blocks=3))
    assert run.report.components == 4
    linked = run.weights().sum(axis=0) > 0
    assert not linked[groups[:, None] != groups[None, :]].any()


def test_modalities_join_each_others_components(prepare):
    rng = np.random.default_rng(0)
    first, second = np.repeat([0, 1], 16), np.tile([0, 1], 16)
    features = {
        f"m{i}": 5 * np.eye(4)[groups] + 0.01 * rng.normal(size=(32, 4))
        for i, groups in enumerate((first, second))
    }
    assert prepare(features, **options(partition_rows=9, blocks=2)).report.components == 1


def test_workers_start_anew_before_edges_are_written_where_neighbours_were_compiled_for(
    prepare, monkeypatch
):
    prepared = prepare(reference.paired_features(1, 90, TWO), **options())
    shutil.rmtree(prepared.job.stages.folder)
    monkeypatch.setattr(nn_descent, "COMPILED", "tabnanny")
    write = build._write_edges
    seen = []

    def noting(*arguments):
        seen.append(client.run(os.getpid))
        return write(*arguments)

    monkeypatch.setattr(build, "_write_edges", noting)
    with connect(workers=1):
        client = distributed.default_client()
        before = client.run(os.getpid)
        client.run(importlib.import_module, "tabnanny")
        again = workers.restart_workers
        report = build.set_graph(prepared.job, again)
        # Those are new, and hold nothing that was compiled.
        build.set_graph(prepared.job, again)
        assert client.run(os.getpid) == seen[0] == seen[1]
    assert set(before.values()).isdisjoint(seen[0].values())
    assert report == prepared.report


def test_workers_of_a_resumed_run_start_anew_where_they_searched_in_an_earlier_try(
    prepare, monkeypatch
):
    prepared = prepare(reference.paired_features(1, 90, TWO), **options())
    monkeypatch.setattr(nn_descent, "COMPILED", "tabnanny")
    resume_graph(prepared.job, None)
    restart = Mock()
    found = resume_graph(prepared.job, restart)
    restart.assert_called_once_with("tabnanny")
    assert found == prepared.report
