"""Evaluation against a dense computation: all distances at once, tied places one by one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr

from srch_dist.errors import InputError, StorageError
from srch_dist.evaluate import measures, retrieval
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.evaluate.row_sets import RowBitmap
from tests.helpers.dense_evaluation import BITS, CUTOFFS, assert_dense_result
from tests.helpers.runs import ROWS, exchange_chunk, make_pairs, make_store, train_here

pytestmark = pytest.mark.slow


def split_rows(store) -> tuple[np.ndarray, np.ndarray]:
    split = store.read("split")
    return np.flatnonzero(split == 1), np.flatnonzero(split == 0)


def trained_on(folder, chunk=None, queries=0, **others):
    store = make_store(folder, chunk, **make_pairs(**others))
    return train_here(store.path, folder / "run", queries=queries)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A run on a store with split and multi-hot labels, some rows without any, chunks of 17."""
    rng = np.random.default_rng(8)
    labels = (rng.random((ROWS, 5)) < 0.2).astype(np.uint8)
    return trained_on(tmp_path_factory.mktemp("labelled"), 17, labels=labels)


def test_multi_hot_labels_and_a_split_give_the_dense_result(labelled):
    found = evaluate_model(labelled.run.path, labelled.store.path)
    assert_dense_result(found, labelled, *split_rows(labelled.store))
    assert found["queries_without_relevant"] > 0
    assert labelled.evaluation == found


def test_blocks_of_queries_and_database_do_not_change_the_result(labelled, monkeypatch):
    """It streams: no distances of more than a tile are ever worked out at once."""
    whole = evaluate_model(labelled.run.path, labelled.store.path)
    monkeypatch.setattr(retrieval, "_QUERY_ROWS", 7)
    monkeypatch.setattr(retrieval, "_DATABASE_TILE", 5)
    monkeypatch.setattr("srch_dist.encode.batch._TASK_BYTES", 1)
    sizes = []

    def recorded(queries, database, compute=measures.hamming_distances):
        sizes.append((len(queries), len(database)))
        return compute(queries, database)

    monkeypatch.setattr(measures, "hamming_distances", recorded)
    assert_dense_result(
        evaluate_model(labelled.run.path, labelled.store.path),
        labelled,
        *split_rows(labelled.store),
    )
    found = evaluate_model(labelled.run.path, labelled.store.path)
    assert found["map"] == pytest.approx(whole["map"])
    assert found["pair_recall"]["image_to_text"] == pytest.approx(
        whole["pair_recall"]["image_to_text"]
    )
    assert len(sizes) > 50
    assert max(max(size) for size in sizes) <= 7


@pytest.mark.parametrize("step", [1, 3, 70])
def test_a_row_bitmap_restores_its_rows_and_takes_a_bit_each(step):
    rows = np.arange(12, 100_000, step)
    bitmap = RowBitmap.of(rows)
    np.testing.assert_array_equal(bitmap.rows, rows)
    assert bitmap.bits.nbytes <= (rows[-1] - rows[0]) // 8 + 1


@pytest.mark.parametrize(
    "labels",
    [np.arange(ROWS) % 4, np.array(["owl", "🦉", "", "fox"])[np.arange(ROWS) % 4]],
    ids=["numbers", "text"],
)
def test_one_label_a_row_and_held_out_queries_give_the_dense_result(tmp_path, labels):
    trained = trained_on(tmp_path, queries=25, labels=labels, split=None)
    queries = zarr.open_array(trained.run.path / "queries.zarr", mode="r")[:]
    assert len(queries) == 25
    database = np.setdiff1d(np.arange(ROWS), queries)
    assert_dense_result(
        evaluate_model(trained.run.path, trained.store.path), trained, queries, database
    )


def test_without_labels_only_partners_are_scored(tmp_path):
    trained = trained_on(tmp_path, labels=None)
    found = evaluate_model(trained.run.path, trained.store.path)
    head = {"queries", "database", "queries_trained_on", "bits"}
    assert set(found) == head | {"pair_recall", "asymmetric"}
    assert set(found["asymmetric"]) == {"pair_recall"}
    assert_dense_result(found, trained, *split_rows(trained.store))


def test_three_modalities_are_scored_in_all_ordered_pairs(tmp_path):
    sound = make_pairs(seed=4)["text"][:, :9]
    trained = trained_on(tmp_path, sound=sound)
    found = evaluate_model(trained.run.path, trained.store.path)
    assert len(found["map"]) == len(found["train_codes"]["map"]) == 6
    assert_dense_result(found, trained, *split_rows(trained.store))


def test_result_is_nested_as_published_and_plain_json(labelled):
    found = json.loads(json.dumps(evaluate_model(labelled.run.path, labelled.store.path)))
    directions = {"image_to_text", "text_to_image"}
    for part in (found, found["train_codes"]):
        for name in ("map", "map_at_50", "precision_at", "precision_recall"):
            assert set(part[name]) == directions
        for direction in directions:
            assert 0 < part["map"][direction] < 1
            assert set(part["precision_at"][direction]) == {str(c) for c in CUTOFFS}
    for direction in directions:
        assert set(found["pair_recall"][direction]) == {"1", "5", "10", "median_rank"}
    assert found["bits"] == BITS


def test_identical_modalities_find_each_other(tmp_path):
    """Codes of the same features are equal, so the partner is among the nearest."""
    image = make_pairs()["image"]
    trained = trained_on(tmp_path, text=image)
    found = evaluate_model(trained.run.path, trained.store.path)["pair_recall"]["image_to_text"]
    assert found["10"] > 0.9
    assert found["median_rank"] < 5


def test_modalities_of_equal_width_are_compared_with_their_float_vectors(tmp_path, monkeypatch):
    pairs = make_pairs()
    noise = np.random.default_rng(3).normal(size=pairs["image"].shape)
    trained = trained_on(tmp_path, 17, text=pairs["image"] + noise)
    found = evaluate_model(trained.run.path, trained.store.path)
    assert_dense_result(found, trained, *split_rows(trained.store))
    assert found["float_queries"] == found["queries"]
    monkeypatch.setattr("srch_dist.encode.batch._TASK_BYTES", 1)
    monkeypatch.setattr("srch_dist.evaluate.float_vectors._TILE", 5)
    assert evaluate_model(trained.run.path, trained.store.path) == found


def test_float_vectors_are_compared_for_a_sample_of_many_queries(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, "FLOAT_QUERIES", 6)
    trained = trained_on(tmp_path, text=make_pairs()["image"])
    found = evaluate_model(trained.run.path, trained.store.path)
    assert found["float_queries"] == 6 < found["queries"]
    assert found["float_pair_recall"]["image_to_text"]["1"] == 1.0


def test_rows_of_another_split_are_ignored(tmp_path):
    split = np.arange(ROWS) % 3
    trained = trained_on(tmp_path, split=split)
    found = evaluate_model(trained.run.path, trained.store.path)
    assert_dense_result(found, trained, np.flatnonzero(split == 1), np.flatnonzero(split == 0))


@pytest.mark.parametrize("value", [0, 1])
def test_split_without_queries_or_without_database_is_refused(labelled, tmp_path, value):
    split = np.full(ROWS, value)
    other = make_store(tmp_path, **make_pairs(split=split))
    with pytest.raises(InputError, match=r"needs rows of split 1 \(queries\) and of split 0"):
        evaluate_model(labelled.run.path, other.path)


def test_store_and_run_without_queries_are_refused_with_the_remedy(tmp_path):
    trained = trained_on(tmp_path, split=None)
    with pytest.raises(InputError, match=r"Add an array 'split' .* or train with --queries N"):
        evaluate_model(trained.run.path, trained.store.path)


def test_held_out_rows_of_another_store_are_refused(tmp_path):
    trained = trained_on(tmp_path / "a", queries=20, split=None)
    other = make_store(tmp_path / "b", **make_pairs(rows=50, split=None))
    with pytest.raises(InputError, match="held-out queries are not from"):
        evaluate_model(trained.run.path, other.path)


def test_learned_codes_are_not_scored_on_a_store_they_do_not_belong_to(labelled, tmp_path):
    """Neither one of another size, nor one of the same size with other rows."""
    for rows in (60, ROWS):
        labels = (np.random.default_rng(1).random((rows, 5)) < 0.4).astype(np.uint8)
        pairs = make_pairs(rows=rows, seed=9, labels=labels)
        other = make_store(tmp_path / f"{rows}", **pairs)
        found = evaluate_model(labelled.run.path, other.path)
        assert "map" in found
        assert "train_codes" not in found


def test_store_of_other_modalities_is_refused(labelled, tmp_path):
    pairs = make_pairs()
    other = make_store(tmp_path, image=pairs["image"], sound=pairs["text"], split=pairs["split"])
    with pytest.raises(InputError, match="modality 'text' must be in the model and in"):
        evaluate_model(labelled.run.path, other.path)


def test_missing_chunk_of_the_learned_codes_is_noticed(labelled, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(labelled.run.path, run)
    chunks = sorted(path for path in (run / "codes.zarr" / "c").rglob("*") if path.is_file())
    chunks[0].unlink()
    with pytest.raises(StorageError, match=r"codes\.zarr"):
        evaluate_model(run, labelled.store.path)


@pytest.mark.parametrize("name", ["image", "labels", "split"])
def test_chunk_of_another_store_is_refused(labelled, tmp_path, name):
    pairs = make_pairs()
    store = make_store(tmp_path / "a", 17, **pairs)
    turned = {each: values[::-1] for each, values in pairs.items()}
    other = make_store(tmp_path / "b", 17, **turned)
    exchange_chunk(f"{store.path}/{name}", f"{other.path}/{name}")
    with pytest.raises(StorageError, match=f"{name}: rows 17 to 33 do not match their recorded"):
        evaluate_model(labelled.run.path, store.path)


def test_unfinished_runs_are_not_scored(labelled, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(labelled.run.path, run)
    (run / "run.json").write_text('{"format": 1, "finished": false}')
    with pytest.raises(StorageError, match="is not finished"):
        evaluate_model(run, labelled.store.path)


def test_queries_that_were_trained_on_are_counted(tmp_path):
    store = make_store(tmp_path, None, **make_pairs())
    trained = train_here(store.path, tmp_path / "run", rows="all")
    found = evaluate_model(trained.run.path, trained.store.path)
    assert found["queries_trained_on"] == found["queries"] > 0


@pytest.mark.parametrize("value", [-1, 0.5, 7])
def test_labels_of_older_stores_that_cannot_be_scored_are_refused(labelled, tmp_path, value):
    labels = labelled.store.read("labels").astype(np.float32)
    store = make_store(tmp_path, 17, **make_pairs(labels=labels))
    group = zarr.open_group(store.path, mode="r+")
    manifest = dict(group.attrs["srch_dist"])
    group.attrs["srch_dist"] = {**manifest, "runs": {}}  # they recorded none of side arrays
    array = zarr.open_array(f"{store.path}/labels", mode="r+")
    row = split_rows(store)[0][0]
    array[row, 0] = value
    with pytest.raises(InputError, match=rf"labels of row {row} cannot be scored: multi-hot"):
        evaluate_model(labelled.run.path, store.path)


def test_labels_may_be_added_after_training(tmp_path):
    arrays = {"split": None, "labels": None}
    plain_store = make_store(tmp_path / "a", **make_pairs(**arrays))
    trained = train_here(plain_store.path, tmp_path / "run", queries=12)
    labels = np.arange(ROWS) % 4
    store = make_store(tmp_path / "b", 11, **make_pairs(split=None, labels=labels))
    found = evaluate_model(trained.run.path, store.path)
    plain = evaluate_model(trained.run.path, trained.store.path)
    assert found["pair_recall"] == plain["pair_recall"]
    assert found["map"].keys() == found["train_codes"]["map"].keys() == plain["pair_recall"].keys()
    other = make_store(tmp_path / "c", 11, **make_pairs(split=None, labels=labels, seed=1))
    with pytest.raises(InputError, match=r"not from .*: image, text differ .*labels may be"):
        evaluate_model(trained.run.path, other.path)
