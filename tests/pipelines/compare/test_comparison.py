"""The comparison command: equal features for every method, the engine's scores, correct tables."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from pipelines.compare.baselines import CcaItq, FloatCca, SemanticCorrelation
from pipelines.compare.data import RetrievalTask
from pipelines.compare.encoders import CommonEncoders
from pipelines.compare.grids import GRIDS, method_names
from pipelines.compare.published import published_records
from pipelines.compare.result_cache import ResultCache, source_digest
from pipelines.compare.run import Bench, Options, run_all
from pipelines.compare.scoring import score_codes, score_model
from pipelines.compare.table import best_points, markdown
from srch_dist import ingest_source
from srch_dist.config.options import MethodConfig
from srch_dist.errors import ConfigError, InputError
from srch_dist.kernels.packed_codes import pack_codes

pytestmark = pytest.mark.slow

OPTIONS = {"graph": {"k": 5}, "bits": 16, "seed": 3}


@pytest.fixture
def bench(task, engine):
    return Bench(task, CommonEncoders(task), engine, 8)


def test_features_are_centred_by_the_training_rows_and_of_unit_length(task, source):
    with np.load(source) as data:
        X, query = data["image"].astype(float), data["split"] == 1
    moved = X - X[~query].mean(axis=0)
    expected = moved[query] / np.linalg.norm(moved[query], axis=1, keepdims=True)
    np.testing.assert_allclose(task.features["queries"]["image"], expected)
    np.testing.assert_allclose(np.linalg.norm(task.train["text"], axis=1), 1.0)


def test_codes_score_as_in_the_engine(task, engine):
    """`score_codes` of the common anchor encoder equals the engine's evaluation."""
    run = engine.train(task, OPTIONS | {"method": {"encoder": "anchors"}})
    anchors = CommonEncoders(task).anchor_codes(run.codes)
    scores = score_codes(task, anchors)
    np.testing.assert_allclose(scores["map"], run.scores["map"], atol=1e-12)
    np.testing.assert_allclose(scores["unseen"], run.scores["unseen"], atol=1e-12)


def test_the_common_ridge_encoder_is_the_engines(task, engine):
    run = engine.train(task, OPTIONS | {"method": {"encoder": "ridge"}})
    common = CommonEncoders(task).scores(run.codes)["ridge"]
    np.testing.assert_allclose(common["map"], run.scores["map"], atol=1e-12)


def test_unseen_ranks_the_other_queries_alone(task):
    """Brute force over the query split, averaged over 300 random orders among ties."""
    rng = np.random.default_rng(0)
    codes = {
        side: {g: rng.integers(0, 2, (len(rows), 8)) * 2 - 1 for g in ("image", "text")}
        for side, rows in task.rows.items()
    }
    packed = {s: {g: pack_codes(B) for g, B in by.items()} for s, by in codes.items()}
    found = score_codes(task, packed)["unseen"][0]
    A, B = codes["queries"]["image"], codes["queries"]["text"]
    owner = task.labels["queries"].argmax(axis=1)
    expected = []
    for _ in range(300):
        noise = rng.random(len(B))
        for i, a in enumerate(A):
            distance = (a != B).sum(axis=1) + noise
            order = [j for j in np.argsort(distance) if j != i]
            hits = owner[order] == owner[i]
            expected.append(np.mean(np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)))
    assert found == pytest.approx(np.mean(expected), abs=0.01)


def test_a_random_database_order_is_not_rewarded(task):
    """Binary and real-valued scoring agree on equal distances."""
    model = CcaItq().fit(task.train, 8, 0)

    class AsDistances:
        def distances(self, g, Q, h, X):
            return (model.encode(g, Q)[:, None] != model.encode(h, X)).sum(axis=2).astype(float)

    by_codes, by_distances = score_model(task, model), score_model(task, AsDistances())
    for measure in ("map", "unseen"):
        np.testing.assert_allclose(by_codes[measure], by_distances[measure])


def test_a_grid_is_searched_with_seed_0_and_only_its_best_points_are_rerun(bench):
    grid = (CcaItq(), CcaItq(ridge=10.0), CcaItq(width=2))
    records = bench.run_grid(grid, 3)
    first = [r for r in records if r["seed"] == 0]
    assert [r["parameters"]["ridge"] for r in first] == [0.1, 10.0, 0.1]
    chosen = {json.dumps(r["parameters"]): r["best_for"] for r in first if r["best_for"]}
    assert sorted(chain.from_iterable(chosen.values())) == ["anchors", "own", "ridge"]
    rerun = [r for r in records if r["seed"] > 0]
    assert len(rerun) == 2 * len(chosen)
    for r in rerun:
        assert set(r["scores"]) == set(chosen[json.dumps(r["parameters"])])
    for encoder, best in best_points(first).items():
        scores = [np.mean(r["scores"][encoder]["map"]) for r in first]
        assert np.mean(best["scores"][encoder]["map"]) == max(scores)


def test_deterministic_methods_run_once_and_have_no_training_codes(bench):
    records = bench.run_grid((FloatCca(width=4),), 3)
    assert [(r["seed"], list(r["scores"]), r["real"]) for r in records] == [(0, ["own"], True)]


def test_supervised_methods_receive_labels_and_are_marked(bench):
    (record,) = bench.run_grid((SemanticCorrelation(),), 1)
    assert record["supervised"]
    assert min(record["scores"]["own"]["map"]) > 0.5
    assert record["peak_bytes"] > 10_000


def test_a_failed_fit_is_reported_in_the_table(bench):
    class Refusing(CcaItq):
        def fit(self, *_):
            raise ValueError("too few rows")

    records = bench.run_grid((Refusing(),), 2)
    assert "1 of 1 refused: too few rows" in markdown(records)


def test_the_command_writes_one_table_with_every_chosen_method(source, in_process, tmp_path):
    methods = ["SRCH balanced", "SRCH paper", "CCA-ITQ", "float CCA"]
    options = Options([source], tmp_path, [16], 2, methods, scheduler=in_process)
    records = run_all(options)
    saved = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert saved["records"] == records
    assert saved["published"] == published_records()
    text = (tmp_path / "results.md").read_text("utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| pairs | 16")]
    assert [row[2] for row in rows[:4]] == methods
    balanced = [r for r in records if r["method"] == "SRCH balanced"]
    means = np.mean([r["scores"]["own"]["map"] for r in balanced], axis=0)
    assert rows[0][3].startswith(f"{means[0]:.3f}/{means[1]:.3f} ± ")
    for record in balanced:
        encoder = MethodConfig().encoder
        assert record["scores"][encoder] == record["scores"]["own"]
    assert "| Wiki | 16 | UGACH" in text


def test_cached_results_count_only_for_equal_data_seeds_options_and_code(
    source, in_process, tmp_path
):
    def run(seeds=1, resume=True, data=source):
        options = Options([data], tmp_path / "out", [16], seeds, ["CCA-ITQ"], 1, in_process)
        return run_all(replace(options, resume=resume))

    first = run()
    part = tmp_path / "out" / "parts" / f"{source.stem}-16.json"
    saved = json.loads(part.read_text("utf-8"))
    cached = saved["CCA-ITQ"]
    cached["records"][0]["marked"] = True
    part.write_text(json.dumps(saved), "utf-8")
    assert "marked" in run()[0]
    assert "marked" not in run(resume=False)[0]
    for change in ("seeds", "data", "options", "code"):
        other = {**cached, "asked": {**cached["asked"], change: 0}}
        part.write_text(json.dumps({**saved, "CCA-ITQ": other}), "utf-8")
        assert "marked" not in run()[0]
    part.write_text('{"asked"', "utf-8")
    assert [r["scores"] for r in run()] == [r["scores"] for r in first]


def test_caching_a_method_keeps_the_others(tmp_path):
    cache = ResultCache(tmp_path / "part.json")
    assert cache.get_or_compute("a", {"seeds": 1}, lambda: [{"map": 1}]) == [{"map": 1}]
    assert cache.get_or_compute("b", {"seeds": 1}, lambda: [{"map": 2}]) == [{"map": 2}]
    assert cache.get_or_compute("a", {"seeds": 1}, lambda: [{"map": 3}]) == [{"map": 1}]
    assert cache.get_or_compute("a", {"seeds": 2}, lambda: [{"map": 3}]) == [{"map": 3}]
    assert cache.get_or_compute("b", {"seeds": 1}, lambda: [{"map": 4}]) == [{"map": 2}]


@pytest.mark.parametrize(("name", "text"), [("a.py", "x = 2\n"), ("b.py", "x = 1\n")])
def test_the_digest_depends_on_names_and_contents_of_sources(tmp_path, name, text):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "a.py").write_text("x = 1\n", "utf-8")
    (tmp_path / "two" / name).write_text(text, "utf-8")
    assert source_digest(tmp_path / "one") != source_digest(tmp_path / "two")


def test_stores_with_equal_names_are_refused(source, tmp_path):
    with pytest.raises(ConfigError, match=r"stores have equal names: pairs, pairs\. Rename"):
        run_all(Options([source, source], tmp_path))


def test_unknown_methods_are_refused_with_the_known_ones(source, tmp_path):
    with pytest.raises(ConfigError, match=r"\['ITQ'\]\. Known methods: SRCH balanced, .*CCA-ITQ"):
        run_all(Options([source], tmp_path, methods=["ITQ"]))


@pytest.mark.parametrize("name", ["labels", "split"])
def test_data_without_labels_or_split_is_refused(source, tmp_path, name):
    with np.load(source) as data:
        np.savez(tmp_path / "part.npz", **{key: data[key] for key in data if key != name})
    store = ingest_source(tmp_path / "part.npz", tmp_path / "part.zarr")
    with pytest.raises(InputError, match=f"no array '{name}'"):
        RetrievalTask.load(store)


def test_labels_may_be_class_names(source, task, tmp_path):
    with np.load(source) as data:
        arrays = {key: data[key] for key in data}
    arrays["labels"] = np.array(["a", "b", "c", "d"])[arrays["labels"].argmax(axis=1)]
    np.savez(tmp_path / "named.npz", **arrays)
    named = RetrievalTask.load(ingest_source(tmp_path / "named.npz", tmp_path / "named.zarr"))
    np.testing.assert_array_equal(named.class_indicators, task.class_indicators)
    for side, relevant in task.relevant.items():
        np.testing.assert_array_equal(named.relevant[side], relevant)


def test_each_grid_has_one_method_and_at_most_eight_distinct_points():
    names = [{method.name for method in grid} for grid in GRIDS]
    assert all(len(grid_names) == 1 for grid_names in names)
    assert len(set.union(*names)) == len(GRIDS)
    assert all(len(set(grid)) == len(grid) <= 8 for grid in GRIDS)
    assert len(set(method_names())) == len(GRIDS) + 2
