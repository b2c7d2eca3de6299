"""`train_model` from a feature store to a finished run directory, in this process."""

from __future__ import annotations

import json
import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
import zarr

from srch_dist.config.loading import build_config, load_config
from srch_dist.encode.model import load_model
from srch_dist.errors import InputError, PlanError, SrchError, StorageError
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.open import open_run
from srch_dist.train import pipeline, setup
from srch_dist.train.rows import choose_rows
from tests.helpers.runs import DIMS, ROWS, make_pairs, make_store, train_here

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"), 25, **make_pairs())


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    return train_here(store.path, out, partition_rows=20, seed=7, evaluate=False)


def train_rows(store: FeatureStore) -> np.ndarray:
    return np.flatnonzero(store.read("split") == 0)


def test_run_directory_has_the_documented_files(trained):
    names = {path.name for path in trained.run.path.iterdir()}
    assert names == {
        "run.json",
        "config.yaml",
        "plan.json",
        "history.jsonl",
        "bits.npz",
        "model.npz",
        "codes.zarr",
        "rows.zarr",
        "checkpoints",
    }


def test_resolved_options_are_recorded(trained, store):
    config = load_config(trained.run.path / "config.yaml")
    assert (config.data, config.seed, config.partition_rows) == (store.path, 7, 20)
    assert (config.method.alpha, config.method.encoder) == ("median", "anchors")


def test_codes_and_rows_are_those_of_the_training_rows(trained, store, tmp_path):
    rows = train_rows(store)
    np.testing.assert_array_equal(
        zarr.open_array(trained.run.path / "rows.zarr", mode="r")[:], rows
    )
    codes = zarr.open_array(trained.run.path / "codes.zarr", mode="r")
    assert (codes.shape, codes.dtype) == ((len(rows), 2), np.uint8)
    assert len(np.unique(codes[:], axis=0)) > 10
    for key in ("directions", "share", "effective_bits"):
        assert trained.run.summary()["condensed"][key] > 0
    run = train_here(store.path, tmp_path / "plain", evaluate=False, method={"directions": 0}).run
    last = run.checkpoint(run.summary()["iterations"], "codes")
    learned = zarr.open_array(run.path / "codes.zarr", mode="r")[:]
    np.testing.assert_array_equal(learned, zarr.open_array(last, mode="r")[:])
    assert run.summary()["condensed"] == {}


@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_history_has_a_record_of_every_iteration_with_all_terms(store, tmp_path, preset):
    run = train_here(store.path, tmp_path / "a", preset, evaluate=False).run
    lines = [json.loads(x) for x in (run.path / "history.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) == run.summary()["iterations"] >= 2
    for line in lines:
        terms = line["terms"]
        assert sorted(terms) == [
            "embedding",
            "quantisation",
            "reconstruction",
            "semantic",
            "sparsity",
        ]
        assert line["objective"] == pytest.approx(sum(terms.values()), rel=1e-12)
        assert 0 <= line["changed_bits"] <= 1
        assert 0 <= line["bit_balance"]["mean"] <= line["bit_balance"]["worst"] <= 1
        assert line["cg_iterations"] >= 1
        assert 1e-4 <= line["cg_tolerance"] <= 1e-1
        assert 0 < line["cg_residual"] <= line["cg_tolerance"]
        assert set(line["seconds"]) == {"w", "z", "s", "b"}
        assert line["peak_memory"]["client"] > 10 << 20


def test_bit_balance_and_changed_bits_of_the_history_equal_those_of_the_codes(trained):
    *_, last = trained.run.history()
    now, before = (
        np.unpackbits(
            zarr.open_array(trained.run.checkpoint(i, "codes"), mode="r")[:], 1, bitorder="little"
        )
        for i in (last["iteration"], last["iteration"] - 1)
    )
    means = np.abs(2.0 * now.mean(axis=0) - 1)
    assert last["changed_bits"] == pytest.approx(np.mean(now != before))
    assert last["bit_balance"] == pytest.approx({"mean": means.mean(), "worst": means.max()})


def test_the_last_two_checkpoints_are_kept_and_their_checksums_match(trained):
    last = trained.run.summary()["iterations"]
    folders = sorted((trained.run.path / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == [f"{last - 1:04d}", f"{last:04d}"]
    for iteration, folder in zip((last - 1, last), folders, strict=True):
        manifest = json.loads((folder / "manifest.json").read_text())
        starts = manifest["starts"]
        assert (manifest["iteration"], manifest["rows"]) == (iteration, starts[-1])
        assert np.diff(starts).max() == 20
        for kind, dtype in (("codes", np.uint8), ("z", np.float32)):
            values = zarr.open_array(folder / kind, mode="r")[:]
            assert values.dtype == dtype
            expected = [zlib.crc32(values[low:high].tobytes()) for low, high in pairwise(starts)]
            assert manifest["checksums"][kind] == expected


def test_summary_describes_the_run(trained, store):
    summary = trained.run.summary()
    rows = train_rows(store)
    assert summary["reason"] == trained.reason
    assert re.match(r"changed bits .* below 0\.003|20 iterations", summary["reason"])
    assert (summary["rows"], summary["held_out"]) == (len(rows), 0)
    assert summary["partitions"] == -(-len(rows) // 20)
    for report in summary["graph"]["modalities"].values():
        assert (report["method"], report["recall"]) == ("exact", 1.0)
        assert 5 * len(rows) / 2 <= report["edges"] <= 5 * len(rows)
    assert summary["graph"]["components"] >= 1
    assert set(summary["seconds"]) == {"features", "graph", "training", "model"}


def test_model_holds_means_projections_encoder_and_versions(trained, store):
    model = load_model(trained.run.path)
    rows = train_rows(store)
    assert list(model.means) == ["image", "text"]
    for g, d in DIMS.items():
        raw = store.read(g)[rows].astype(np.float64)
        np.testing.assert_allclose(model.means[g], raw.mean(axis=0), atol=1e-12)
        w = model.projections[g]
        assert w.shape == model.encoders[g].shape == (16, d)
        # l ≤ d: orthonormal rows; l > d: orthonormal columns.
        gram = w @ w.T if d >= 16 else w.T @ w
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-10)
    versions = model.metadata["versions"]
    assert {"python", "srch-dist", "numpy", "scipy", "dask", "zarr", "pynndescent"} <= set(versions)
    assert versions["numpy"] == np.__version__
    assert model.metadata["config"]["seed"] == 7


@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_encoder_is_fitted_to_the_learned_codes(store, tmp_path, preset):
    """Ridge regression of B on X if selected; the W of a last W-step for `paper`."""
    method = {"encoder": "ridge"} if preset == "balanced" else {}
    run = train_here(store.path, tmp_path / "a", preset, evaluate=False, method=method).run
    model, rows = load_model(run.path), train_rows(store)
    packed = zarr.open_array(run.path / "codes.zarr", mode="r")[:]
    b = 2.0 * np.unpackbits(packed, axis=1, bitorder="little") - 1
    for g, d in DIMS.items():
        x = store.read(g)[rows].astype(np.float64)
        x -= x.mean(axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        # The maximum of Eq. 10 is the nuclear norm; W itself need not be unique.
        reached = np.trace(model.projections[g] @ x.T @ b)
        assert reached == pytest.approx(np.linalg.norm(x.T @ b, "nuc"), rel=1e-10)
        penalty = 0.1 * np.trace(x.T @ x) / d * np.eye(d)
        ridge = np.linalg.solve(x.T @ x + penalty, x.T @ b).T
        expected = ridge if preset == "balanced" else model.projections[g]
        np.testing.assert_allclose(model.encoders[g], expected, atol=1e-8)


def test_split_and_rows_select_the_training_rows(store, tmp_path):
    assert np.array_equal(choose_rows(store, build_config({}))[0], train_rows(store))
    rows, queries = choose_rows(store, build_config({"rows": "all"}))
    assert (len(rows), len(queries)) == (ROWS, 0)
    plain = make_store(tmp_path, **make_pairs(split=None))
    assert len(choose_rows(plain, build_config({}))[0]) == ROWS


def test_held_out_queries_follow_from_the_seed_alone(tmp_path):
    pairs = make_pairs(split=None)
    chosen = []
    for chunk, seed in ((None, 1), (7, 1), (None, 2)):
        store = make_store(tmp_path / f"{chunk}-{seed}", chunk, **pairs)
        rows, queries = choose_rows(store, build_config({"queries": 20, "seed": seed}))
        assert len(queries) == 20
        np.testing.assert_array_equal(np.sort(np.r_[rows, queries]), np.arange(ROWS))
        chosen.append(queries)
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])


def test_held_out_queries_are_recorded_and_not_trained_on(tmp_path):
    store = make_store(tmp_path, **make_pairs(split=None))
    run = train_here(store.path, tmp_path / "a", queries=20).run
    rows = zarr.open_array(run.path / "rows.zarr", mode="r")[:]
    queries = zarr.open_array(run.path / "queries.zarr", mode="r")[:]
    assert (len(rows), len(queries)) == (ROWS - 20, 20)
    assert np.intersect1d(rows, queries).size == 0
    assert run.summary()["held_out"] == 20


def test_partitions_blocks_and_chunks_do_not_change_the_codes(tmp_path):
    pairs = make_pairs()
    found = []
    for chunk, partition, blocks in ((None, None, None), (7, 11, 3), (30, 20, 1)):
        folder = tmp_path / f"{partition}"
        store = make_store(folder, chunk, **pairs)
        options = {"partition_rows": partition, "blocks": blocks, "bits": 8, "evaluate": False}
        run = train_here(store.path, folder / "run", method={"iterations": 3}, **options).run
        found.append(zarr.open_array(run.path / "codes.zarr", mode="r")[:])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_work_folder_is_kept_with_keep_work(store, tmp_path):
    run = train_here(store.path, tmp_path / "a", keep_work=True, evaluate=False).run
    features = zarr.open_array(run.features("image"), mode="r")[:]
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1)
    assert features.shape == (len(train_rows(store)), DIMS["image"])


def test_training_evaluates_the_model_if_there_are_queries(store, tmp_path):
    trained = train_here(store.path, tmp_path / "a")
    assert trained.evaluation is not None
    assert trained.evaluation["queries"] == np.sum(store.read("split") == 1)
    plain = make_store(tmp_path, **make_pairs(split=None))
    assert train_here(plain.path, tmp_path / "b").evaluation is None


def test_run_that_fails_in_the_loop_is_not_marked_as_finished(store, tmp_path):
    with pytest.raises(SrchError, match=r"solver\.max_iterations"):
        train_here(store.path, tmp_path / "a", solver={"max_iterations": 1})
    with pytest.raises(StorageError, match=r"not finished|not a run directory|does not exist"):
        open_run(tmp_path / "a")


def test_plan_that_does_not_fit_is_refused_and_the_folder_removed(store, tmp_path):
    with pytest.raises(PlanError, match=r"needs \d+ MiB .* \d+ MiB are allowed"):
        train_here(store.path, tmp_path / "a", memory_limit="300MiB")
    assert not (tmp_path / "a").exists()


def test_too_many_zero_rows_are_refused_and_the_folder_removed(tmp_path):
    pairs = make_pairs(split=None)
    pairs["text"][:] = pairs["text"][0]
    store = make_store(tmp_path, **pairs)
    with pytest.raises(InputError, match="text: 90 of 90 rows are zero after centring"):
        train_here(store.path, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_run_directory_in_use_is_refused_and_untouched(store, trained):
    before = sorted(path.name for path in trained.run.path.iterdir())
    with pytest.raises(
        StorageError, match="a finished run; choose another run directory with --out"
    ):
        train_here(store.path, trained.run.path)
    assert sorted(path.name for path in trained.run.path.iterdir()) == before
    assert open_run(trained.run.path).summary() == trained.run.summary()


def test_split_without_queries_is_trained_on_and_not_scored(tmp_path):
    store = make_store(tmp_path, **make_pairs(split=np.zeros(ROWS, dtype=np.uint8)))
    trained = train_here(store.path, tmp_path / "a")
    assert trained.evaluation is None
    assert open_run(tmp_path / "a").summary()["rows"] == ROWS


def test_a_resumed_run_needs_disk_only_for_what_is_not_stored_yet(store, tmp_path, monkeypatch):
    """A run may fill its disk: the free space never has to hold it a second time."""
    asked, stop = [], True
    learn, check = pipeline.learn_codes, setup.check_disk

    def killed(*arguments):
        if stop:
            raise KeyboardInterrupt
        return learn(*arguments)

    def checked(plan, folder, _free, stored):
        asked.append(stored)
        check(plan, folder, plan.disk_bytes - asked[-1], stored)

    monkeypatch.setattr(pipeline, "learn_codes", killed)
    monkeypatch.setattr(setup, "check_disk", checked)
    with pytest.raises(KeyboardInterrupt):
        train_here(store.path, tmp_path / "a", evaluate=False)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    there = sum(path.stat().st_size for path in files)
    stop = False
    train_here(store.path, tmp_path / "a", evaluate=False, resume=True)
    assert asked[0] < 10_000 < there
    assert abs(asked[1] - there) < 1_000  # the lock file
