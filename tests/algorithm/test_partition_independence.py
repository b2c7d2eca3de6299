"""Codes do not depend on partitions, blocks, column groups or workers."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist import build_config, ingest_source, load_model, train_model
from tests.helpers import reference
from tests.helpers.plans import make_plan
from tests.helpers.prepared import PLAIN, read_array

pytestmark = pytest.mark.slow

N = 120
METHOD = {"iterations": 3}
RANKS = {"balanced": 10, "paper": 0}
FULL = {
    "weights": "mutual",
    "rotate": True,
    "directions": 6,
    "loop_bits": 24,
    "embedding_rank": 9,
    "anchors": 40,
    "encoder": "anchors",
}


def features():
    """Paired features with duplicated rows, so that neighbours have ties."""
    made = reference.paired_features(0, N, (12, 9))
    for x in made.values():
        x[70:80] = x[10:20]
    return made


@pytest.fixture(scope="module", params=["balanced", "paper"])
def trained(request, prepare):
    """A function that trains with a partitioning, and the run, codes and history without one."""

    def train(**cut):
        method = {**METHOD, "embedding_rank": RANKS[request.param]}
        run = prepare(features(), preset=request.param, method=method, bits=16, **cut)
        learned = run.learn()
        return run, run.codes(learned.iteration), run.directory.history()

    return train, train()


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(10, N + 5), st.integers(1, 5), st.integers(1, 3))
def test_partitions_blocks_and_workers_never_change_the_codes(
    trained, partition_rows, blocks, workers
):
    train, (_, codes, history) = trained
    run, other, records = train(partition_rows=partition_rows, blocks=blocks, workers=workers)
    assert len(run.plan.partitions) == -(-N // partition_rows)
    np.testing.assert_array_equal(other, codes)
    assert len(records) == len(history) == METHOD["iterations"]
    for record, expected in zip(records, history, strict=True):
        assert record["terms"] == pytest.approx(expected["terms"], rel=1e-5)
        assert record["changed_bits"] == expected["changed_bits"]


def test_another_seed_changes_the_codes(trained):
    """A guard: equal codes above do not come from codes that never change."""
    train, (_, codes, _) = trained
    share = np.mean(train(seed=1)[1] != codes)
    assert share > 0.05


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 500), st.integers(1, 600), st.integers(1, 20), st.integers(1, 9))
def test_a_plan_covers_every_row_once(n, partition_rows, blocks, workers):
    config = build_config({"partition_rows": partition_rows, "blocks": blocks})
    plan = make_plan(n, {"a": 4, "b": 3}, config, workers, 4 << 30)
    spans = [plan.span(p) for p in plan.partitions]
    assert [row for span in spans for row in range(*span)] == list(range(n))
    assert all(high - low == plan.partition_rows for low, high in spans[:-1])
    owned = [p for b in plan.blocks for p in plan.block_partitions(b)]
    assert owned == list(plan.partitions)
    assert all(len(plan.block_partitions(b)) > 0 for b in plan.blocks)
    assert len(plan.blocks) == min(blocks, len(spans))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    np.savez(folder / "data.npz", **features())
    ingest_source(folder / "data.npz", folder / "store.zarr")
    return folder / "store.zarr"


@pytest.mark.parametrize(
    ("workers", "solve"),
    [
        (1, {"blocks": 1}),
        (2, {"blocks": 2}),
        (2, {"blocks": 1, "columns": 6}),
        (3, {"blocks": 1, "columns": 6, "spill": "on"}),
    ],
    ids=["alone", "blocks", "columns", "files"],
)
@pytest.mark.parametrize("method", [PLAIN, FULL], ids=["plain", "balanced"])
def test_worker_processes_give_the_codes_of_one_process(
    prepare, store, tmp_path, method, workers, solve
):
    options = {"method": {**method, **METHOD}, "bits": 16, "precision": "float64"}
    alone = prepare(features(), **options)
    alone.finish(alone.learn())
    config = build_config(
        {
            **options,
            "data": str(store),
            "out": str(tmp_path / "run"),
            "workers": workers,
            "partition_rows": 25,
            **solve,
            "evaluate": False,
        }
    )
    trained = train_model(config)
    packed = zarr.open_array(str(trained.run.codes), mode="r")[:]
    codes = np.unpackbits(packed, axis=1, bitorder="little").astype(int) * 2 - 1
    np.testing.assert_array_equal(packed, read_array(alone.directory.codes))
    assert_model_is_that_of(codes, load_model(trained.run.path), method["encoder"])


def assert_model_is_that_of(codes, model, encoder):
    """W from one more W-step and the encoder from ridge regression on the final codes."""
    for g, raw in features().items():
        x = reference.normalise(raw)
        np.testing.assert_allclose(model.means[g], raw.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(model.projections[g], reference.w_step(x, codes), atol=1e-8)
        if encoder == "ridge":
            expected = reference.ridge_encoder(x, codes, 0.1)
            np.testing.assert_allclose(model.encoders[g], expected, rtol=1e-8, atol=1e-10)


def test_tied_neighbours_stay_tied_for_every_partitioning(prepare):
    """Sums of these fractions round: a mean that depended on the partitions would break ties."""
    rng = np.random.default_rng(0)
    features = {"m0": rng.poisson(0.2, (300, 40)) / 3.0, "m1": rng.normal(size=(300, 9))}
    found = []
    for size in (300, 151, 64, 7):
        run = prepare(features, partition_rows=size, features={"unit_norm": False})
        found.append(read_array(run.directory.neighbours("m0", "rows")))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(
    ("columns", "blocks", "workers"),
    [(1, 2, 1), (5, 1, 1), (5, 1, 2), (2, 1, 3), (5, 2, 2), (8, 2, 1)],
)
def test_columns_solved_in_groups_never_change_the_codes(trained, columns, blocks, workers):
    train, (whole, codes, _) = trained
    run, other, _ = train(columns=columns, blocks=blocks, workers=workers, partition_rows=40)
    assert run.plan.columns == columns
    np.testing.assert_array_equal(other, codes)
    last = METHOD["iterations"]
    np.testing.assert_allclose(run.embedding(last), whole.embedding(last), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("blocks", [2, 3])
def test_aggregates_do_not_depend_on_the_blocks(prepare, blocks):
    """Block boundaries cut every aggregate and zone of these runs."""
    found = []
    for cut in ({}, {"blocks": blocks, "partition_rows": 17}):
        run = prepare(features(), method=METHOD, bits=16, solver={"coarse": "on"}, **cut)
        run.learn()
        found.append((run.codes(3), [r["cg_iterations"] for r in run.directory.history()]))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
