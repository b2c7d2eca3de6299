"""Neighbours searched in small leaves that overlap, cluster by cluster."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.algorithm.neighbour_graph import build, leaf_search, partitioned
from srch_dist.algorithm.neighbour_graph.partitioned import choose_leaves
from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError, SrchError
from srch_dist.runtime import resumable
from tests.helpers import reference
from tests.helpers.plans import make_plan
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
        assert report.clusters == 7
        assert 8 <= report.leaves <= 24
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
    scratch = run.directory.scratch("points").parent
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


@pytest.mark.parametrize("name", ["GROUP_VISITS", "MEASURED_BYTES"])
def test_no_split_of_a_task_changes_the_neighbours(run, prepare, monkeypatch, name):
    monkeypatch.setattr(leaf_search.kernels, name, 700)
    other = prepare(features(), partition_rows=130, **options())
    for g in run.modalities:
        for left, right in zip(found(run, g), found(other, g), strict=True):
            np.testing.assert_array_equal(left, right)


def test_rows_that_visit_all_leaves_are_searched_exactly(prepare):
    data = features(n=120)
    graph = {"leaves": 30, "leaves_max": 30}
    run = prepare(data, partition_rows=50, **options(**graph))
    exact = prepare(data, **options(method="exact"))
    g = run.modalities[0]  # not projected
    for left, right in zip(found(run, g), found(exact, g), strict=True):
        np.testing.assert_array_equal(left, right)


def test_recall_does_not_depend_on_the_size_of_clusters(prepare):
    """Rows of different clusters are neighbours through the leaves that both visit."""
    many = prepare(features(), **options(cluster_rows=25))
    one = prepare(features(), **options(cluster_rows=N))
    for g in many.modalities:
        assert many.report.modalities[g].clusters == 16
        assert one.report.modalities[g].clusters == 1
        assert measured_recall(many, g) >= 0.95
        assert abs(measured_recall(many, g) - measured_recall(one, g)) < 0.03


def test_clusters_of_very_unequal_density(prepare):
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


def test_leaves_with_too_many_members_keep_the_nearest(prepare, monkeypatch):
    """Duplicates all visit the same leaves, so that a limit of members matters."""
    monkeypatch.setattr(leaf_search.kernels, "member_bits", lambda _k: 6)
    data = features()
    for x in data.values():
        x[:200] = x[0]
    run = prepare(data, partition_rows=150, **options())
    for g in run.modalities:
        assert run.report.modalities[g].duplicates >= 200
        assert measured_recall(run, g) >= 0.9


def test_neighbours_close_to_all_rows(prepare):
    data = features(n=70)
    run = prepare(data, partition_rows=33, **options(k=14))
    for g in run.modalities:
        assert run.report.modalities[g].recall >= 0.95


def test_search_is_repeated_with_more_leaves_if_the_recall_falls_short(prepare, monkeypatch):
    """The choice before the search is switched off, so the loop after it has to raise."""
    monkeypatch.setattr(partitioned, "choose_leaves", lambda _shares, _options: 1)
    raised = prepare(features(), **options(leaves=1, recall_target=0.9))
    for g, report in raised.report.modalities.items():
        assert report.leaves > 1
        assert report.recall >= 0.9
        assert measured_recall(raised, g) >= 0.9


def test_target_out_of_reach_is_reported(prepare, capsys):
    graph = {"leaves": 2, "leaves_max": 2, "recall_target": 1.0}
    run = prepare(features(), notes=True, **options(**graph))
    text = " ".join(capsys.readouterr().err.split())
    for g, report in run.report.modalities.items():
        assert report.leaves == 2
        assert report.recall < 1
        assert f"warning: graph {g}: recall {report.recall:.3f} stays below" in text


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((0.5, 0.97, 1, 1), 2), ((0.99, 1, 1, 1), 2), ((0.5, 0.9, 0.955, 0.97), 4), ((0, 0, 0, 0), 4)],
)
def test_leaves_are_the_fewest_that_make_the_target_possible(shares, expected):
    graph = build_config(options(leaves=2)).graph
    assert choose_leaves(np.array(shares), graph) == expected


def test_coverage_is_the_share_of_pairs_in_a_common_leaf(prepare, monkeypatch):
    """Without a limit of k candidates per leaf, the recall of the search is the coverage."""
    seen = []

    def watch(shares, _options):
        seen.append(shares)
        return 4

    monkeypatch.setattr(partitioned, "choose_leaves", watch)
    run = prepare(features(), **options(leaves=4, leaves_max=4, recall_target=0.5))
    g = run.modalities[0]  # not projected
    assert (np.diff(seen[0]) >= 0).all()
    assert seen[0][3] == pytest.approx(measured_recall(run, g), abs=0.01)


def test_a_search_resumes_after_every_task(prepare, monkeypatch):
    """Each attempt ends after a few tasks more; the graph is that of an undisturbed run."""
    whole = prepare(features(), partition_rows=130, **options())
    job = whole.job
    shutil.rmtree(job.stages.folder)
    for kind in ("rows", "distances"):
        for g in whole.modalities:
            shutil.rmtree(whole.directory.neighbours(g, kind))
    run_unit, left = resumable._run_unit, [0]

    def limited(*arguments):
        if left[0] == 0:
            raise SrchError("interrupted")
        left[0] -= 1
        return run_unit(*arguments)

    monkeypatch.setattr(resumable, "_run_unit", limited)
    for attempt in range(100):
        left[0] = 9
        try:
            searched = build._search(job)
            break
        except SrchError:
            assert attempt < 99
    for g in whole.modalities:
        assert searched[g].recall == whole.report.modalities[g].recall
    again, left[0] = whole.weights(), -1
    assert build.set_graph(job) == whole.report
    np.testing.assert_array_equal(again, whole.weights())


def test_clusters_smaller_than_the_neighbours_are_refused():
    config = build_config(options(cluster_rows=20))
    with pytest.raises(ConfigError, match=r"graph\.cluster_rows is 20, .* at least 24 rows"):
        make_plan(N, {"a": 12, "b": 9}, config, 1, 4 << 30)


def test_more_leaves_than_the_most_are_refused():
    with pytest.raises(ConfigError, match=r"graph\.leaves is 25, above graph\.leaves_max 24"):
        build_config({"graph": {"leaves": 25}})


def test_rows_without_enough_company_end_the_run(prepare, monkeypatch):
    monkeypatch.setattr(
        leaf_search.kernels,
        "candidate_numbers",
        lambda packed: np.full((len(packed), K), -1, dtype=np.int64),
    )
    with pytest.raises(SrchError, match=r"rows share their leaves with fewer than 5 other rows"):
        prepare(features(), **options())
