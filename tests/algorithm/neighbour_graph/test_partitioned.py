"""Neighbours searched cluster by cluster; clusters are small here, so they are searched exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.algorithm.neighbour_graph import partitioned
from srch_dist.algorithm.neighbour_graph.partitioned import choose_overlap, search_sets
from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError, SrchError
from srch_dist.kernels.sampling import hash_rows
from tests.helpers import reference
from tests.helpers.prepared import read_array

pytestmark = pytest.mark.slow

K, N = 5, 400
GRAPH = {"k": K, "method": "partitioned", "cluster_rows": 60, "order_rows": 20}


def options(**graph):
    return {"graph": {**GRAPH, **graph}}


def features(seed=0, n=N):
    """A modality of few dimensions, and one that is wide enough to be projected."""
    return reference.paired_features(seed, n, (12, 300), noise=1.0)


def found(run, modality):
    """Neighbours (n, k) and their distances, in the order of the store."""
    order = read_array(run.directory.order)
    rows, distances = (
        read_array(run.directory.neighbours(modality, kind)) for kind in ("rows", "distances")
    )
    back = np.argsort(order)
    return rows[back], distances[back]


def original(run, modality):
    """Normalised features in the order of the store."""
    return run.features()[modality][np.argsort(read_array(run.directory.order))]


def measured_recall(run, modality):
    exact = np.sort(reference.squared_distances(original(run, modality)), axis=1)[:, K]
    return np.mean(found(run, modality)[1] <= exact[:, None] * (1 + 1e-5) ** 2)


@pytest.fixture(scope="module")
def run(prepare):
    return prepare(features(), partition_rows=130, **options())


def test_recall_is_high_and_reported(run):
    for g, report in run.report.modalities.items():
        assert report.method == "partitioned"
        assert report.clusters >= N // 60
        assert 2 <= report.overlap <= 4
        # Every row is sampled.
        assert report.recall == pytest.approx(measured_recall(run, g))
        assert report.recall >= 0.95


def test_rows_have_k_distinct_neighbours_by_distance_then_number(run):
    for g in run.modalities:
        x, (rows, distances) = original(run, g), found(run, g)
        assert not (rows == np.arange(N)[:, None]).any()
        assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
        exact = ((x[:, None, :] - x[rows]) ** 2).sum(axis=2)
        np.testing.assert_allclose(distances, exact, rtol=1e-10)
        assert (np.diff(distances, axis=1) >= 0).all()


def test_scratch_files_are_gone(run):
    scratch = run.directory.scratch("routed").parent
    assert not scratch.exists() or not any(scratch.iterdir())


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.integers(90, N + 50), st.integers(1, 4))
def test_no_partitioning_changes_order_or_graph(run, prepare, partition_rows, blocks):
    other = prepare(features(), partition_rows=partition_rows, blocks=blocks, **options())
    np.testing.assert_array_equal(
        read_array(other.directory.order), read_array(run.directory.order)
    )
    assert other.report == run.report
    np.testing.assert_array_equal(other.weights(), run.weights())


def test_one_cluster_is_exact_search(prepare):
    data = features(n=120)
    run = prepare(data, partition_rows=50, **options(cluster_rows=500))
    exact = prepare(data, **options(method="exact"))
    for g in run.modalities:
        assert run.report.modalities[g].clusters == 1
        for left, right in zip(found(run, g), found(exact, g), strict=True):
            np.testing.assert_array_equal(left, right)


def test_clusters_of_very_unequal_size(prepare):
    """Half of the rows in one spot, the others far apart in a few small ones."""
    rng = np.random.default_rng(0)
    spots = np.repeat([0, 1, 2, 3], [300, 80, 15, 5])
    data = {
        f"m{i}": 9 * np.eye(8)[spots]
        + rng.normal(size=(N, 8)) * np.array([1, 0.5, 0.1, 0.1])[spots, None]
        for i in (0, 1)
    }
    run = prepare(data, partition_rows=77, **options())
    for g in run.modalities:
        assert measured_recall(run, g) >= 0.95


@pytest.mark.parametrize("others", [20, 0], ids=["nearly all", "all"])
def test_rows_that_are_duplicates(prepare, others):
    data, alike = features(), N - others
    for x in data.values():
        x[:alike] = x[0]
    run = prepare(data, partition_rows=150, features={"max_zero_share": 1.0}, **options())
    for g in run.modalities:
        _, distances = found(run, g)
        assert (distances[:alike] == 0).all()
        assert run.report.modalities[g].duplicates >= alike
        assert run.report.modalities[g].recall >= 0.95


def test_neighbours_close_to_all_rows(prepare):
    data = features(n=70)
    run = prepare(data, partition_rows=33, **options(k=14))
    for g in run.modalities:
        assert run.report.modalities[g].recall >= 0.95


def test_overlap_is_raised_where_the_recall_falls_short(prepare, monkeypatch):
    """The choice before the search is switched off, so the loop after it has to raise."""
    monkeypatch.setattr(partitioned, "choose_overlap", lambda _shares, _options: 1)
    raised = prepare(features(), **options(overlap=1, recall_target=0.9))
    for g, report in raised.report.modalities.items():
        assert report.overlap > 1
        assert report.recall >= 0.9
        assert measured_recall(raised, g) >= 0.9


def test_target_out_of_reach_is_said_and_recorded(prepare, capsys):
    run = prepare(features(), notes=True, **options(overlap=1, overlap_max=1, recall_target=1.0))
    text = " ".join(capsys.readouterr().err.split())
    for g, report in run.report.modalities.items():
        assert report.overlap == 1
        assert report.recall < 1
        assert f"warning: graph {g}: recall {report.recall:.3f} stays below" in text


def test_refinement_finds_neighbours_of_other_clusters(prepare):
    few = {"cluster_rows": 24, "overlap_max": 2, "recall_target": 0.0}
    before = prepare(features(n=200), partition_rows=130, **options(**few))
    after = prepare(features(n=200), partition_rows=130, **options(refine=True, **few))
    for g in before.modalities:
        assert measured_recall(after, g) > measured_recall(before, g)
        assert after.report.modalities[g].recall == pytest.approx(measured_recall(after, g))
        x, (rows, _) = original(before, g), found(before, g)
        exact = reference.squared_distances(x)
        for row in range(0, 200, 17):
            second = (set(rows[row]) | set(rows[rows[row]].ravel())) - {row}
            nearest = sorted(second, key=lambda other: (exact[row, other], other))[:K]
            assert found(after, g)[0][row].tolist() == nearest


def test_refinement_starts_from_the_first_overlap():
    graph = build_config(options(refine=True)).graph
    assert choose_overlap(np.zeros(4), graph) == graph.overlap


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((0.5, 0.97, 1, 1), 2), ((0.99, 1, 1, 1), 2), ((0.5, 0.9, 0.955, 0.97), 4), ((0, 0, 0, 0), 4)],
)
def test_overlap_is_the_least_that_makes_the_target_possible(shares, expected):
    assert choose_overlap(np.array(shares), build_config(options()).graph) == expected


def test_search_sets_hold_every_row_where_all_fit():
    (whole,) = search_sets(np.arange(9), np.array([0, 1] * 4 + [0]), 9)
    assert whole.all()


def test_search_sets_leave_the_farthest_visitors_out():
    levels = np.array([0, 2, 1, 0, 2, 1, 0, 2])
    (kept,) = search_sets(np.arange(8), levels, 6)
    assert kept[levels < 2].all()
    assert kept.sum() == 6
    out = np.flatnonzero(~kept)
    keys = hash_rows(0, np.arange(8))
    assert keys[out].min() > keys[(levels == 2) & kept].max() if len(out) == 1 else len(out) == 2


def test_search_sets_split_residents_that_do_not_fit():
    levels = np.array([0] * 25 + [1] * 10)
    sets = search_sets(np.arange(35), levels, 10)
    assert [int(mine.sum()) for mine in sets] == [9, 8, 8]
    np.testing.assert_array_equal(np.sum(sets, axis=0), levels == 0)


def test_clusters_smaller_than_the_neighbours_are_refused():
    with pytest.raises(ConfigError, match=r"graph\.cluster_rows is 20, .* at least 24 rows"):
        plan_of(build_config(options(cluster_rows=20)))


def plan_of(config):
    from tests.helpers.plans import make_plan

    return make_plan(N, {"a": 12, "b": 9}, config, 1, 4 << 30)


def test_more_overlap_than_the_most_is_refused():
    with pytest.raises(ConfigError, match=r"graph\.overlap is 5, above graph\.overlap_max 4"):
        build_config({"graph": {"overlap": 5}})


def test_rows_without_enough_company_end_the_run(prepare, monkeypatch):
    """Only clusters that grew far smaller than their sample said can bring this about."""
    monkeypatch.setattr(
        partitioned, "search_sets", lambda numbers, _levels, _most: [np.arange(len(numbers)) < 3]
    )
    with pytest.raises(SrchError, match=r"rows have fewer than 5 other rows in their clusters"):
        prepare(features(), **options())
