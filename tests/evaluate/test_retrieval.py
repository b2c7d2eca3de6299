"""Evaluation against a dense computation: all distances at once, tied places one by one."""

from __future__ import annotations

import json
import shutil
from itertools import permutations

import numpy as np
import pytest
import zarr

from srch_dist.encode.model import load_model
from srch_dist.encode.scoring import score_rows
from srch_dist.errors import InputError, StorageError
from srch_dist.evaluate import measures, retrieval
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.evaluate.row_sets import RowBitmap
from tests.helpers.models import numpy_bits
from tests.helpers.runs import ROWS, exchange_chunk, make_pairs, make_store, train_here

pytestmark = pytest.mark.slow

CUTOFFS = (1, 5, 10, 50, 100)
BITS = 16  # of every run here
RANKINGS = ("symmetric", "asymmetric")


def expected_places(distances: np.ndarray, relevant: np.ndarray) -> tuple[list, list]:
    """Expected precision sum and relevant rows at each place of one query's ranking.

    At place j of a tie block with N rows, R of them relevant, a row is relevant with probability
    R / N, and (j - 1)(R - 1) / (N - 1) relevant ones of the block are then expected before it.
    """
    sums, hits, before, found = [], [], 0, 0
    for d in np.unique(distances):
        block = distances == d
        n, r = int(block.sum()), int(relevant[block].sum())
        for j in range(n):
            earlier = j * (r - 1) / (n - 1) if n > 1 else 0
            sums.append(r / n * (found + 1 + earlier) / (before + j + 1))
            hits.append(r / n)
        before, found = before + n, found + r
    return sums, hits


def dense_retrieval(distances: np.ndarray, relevant: np.ndarray) -> dict:
    """Means over the queries that have anything relevant."""
    rows = []
    for d, r in zip(distances, relevant, strict=True):
        if not r.any():
            continue
        sums, hits = expected_places(d, r)
        radii = range(BITS + 1)
        within = [d <= radius for radius in radii]
        rows.append(
            {
                "map": sum(sums) / r.sum(),
                "map_at_50": sum(sums[:50]) / min(50, r.sum()),
                "precision_at": {str(c): sum(hits[:c]) / c for c in CUTOFFS},
                "precision": [r[w].mean() if w.any() else np.nan for w in within],
                "recall": [(r & w).sum() / r.sum() for w in within],
            }
        )
    return {
        "map": np.mean([row["map"] for row in rows]),
        "map_at_50": np.mean([row["map_at_50"] for row in rows]),
        "precision_at": {
            str(c): np.mean([row["precision_at"][str(c)] for row in rows]) for c in CUTOFFS
        },
        "precision": [
            np.mean(known) if (known := [p for p in column if not np.isnan(p)]) else None
            for column in zip(*(row["precision"] for row in rows), strict=True)
        ],
        "recall": list(np.mean([row["recall"] for row in rows], axis=0)),
        "queries_without_relevant": len(relevant) - len(rows),
    }


def relevance(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    if queries.ndim == 1:
        return np.array([[a == b and a != "" for b in database] for a in queries])
    return np.array([[bool(np.any((a > 0) & (b > 0))) for b in database] for a in queries])


def dense_pairs(far, queries: np.ndarray, everyone: np.ndarray) -> dict:
    """Recall and median rank of each query's own row among ``everyone``."""
    ranks, recalls = [], []
    for row, query in zip(far, queries, strict=True):
        own, others = row[query], row[everyone]
        closer, tied = np.sum(others < own), np.sum(others == own)
        ranks.append(closer + (tied + 1) / 2)
        places = np.arange(closer + 1, closer + tied + 1)
        recalls.append([np.mean(places <= cutoff) for cutoff in (1, 5, 10)])
    recall = dict(zip(("1", "5", "10"), np.mean(recalls, axis=0), strict=True))
    return {**recall, "median_rank": np.median(ranks)}


def dense_asymmetric(model, modality: str, rows: np.ndarray, database_bits: np.ndarray):
    """Σ |q_j| over the bits that differ, q being scores of the queries in integers."""
    scores = score_rows(load_model(model), modality, rows)
    scale = (2047 - BITS / 2) / np.abs(scores).sum(axis=1)
    q = np.round(scores * scale[:, None])
    return np.array([[np.abs(row)[(row > 0) != b].sum() for b in database_bits] for row in q])


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def dense_kept(codes: np.ndarray, floats: np.ndarray) -> float:
    """Share of the 10 nearest by float that is among the 10 nearest by code, over ties' orders."""
    shares = []
    for far, exact in zip(codes, floats, strict=True):
        nearest = np.argsort(exact, kind="stable")[:10]
        orders = [np.lexsort((np.random.default_rng(i).random(len(far)), far)) for i in range(400)]
        shares.append(np.mean([len(set(order[:10]) & set(nearest)) / 10 for order in orders]))
    return float(np.mean(shares))


def dense_evaluation(trained, queries: np.ndarray, database: np.ndarray) -> dict:
    """The whole result of `evaluate_model` from the model file and the store."""
    store, run = trained.store, trained.run
    names = list(store.modalities)
    bits = {g: numpy_bits(run.model, g, store.read(g)) for g in names}
    labels = store.read("labels") if "labels" in store.side else None
    packed = zarr.open_array(run.codes, mode="r")[:]
    learned = np.unpackbits(packed, axis=1, bitorder="little").astype(bool)
    learned_rows = zarr.open_array(run.rows, mode="r")[:]
    names_of = ("pair_recall", "asymmetric_pairs", "float_pair_recall", "kept")
    result = {name: {} for name in (*names_of, "retrieval", "asymmetric", "train_codes")}
    for source, target in permutations(names, 2):
        direction = f"{source}_to_{target}"
        far = np.array([[np.sum(a != b) for b in bits[target]] for a in bits[source][queries]])
        weighted = dense_asymmetric(run.model, source, store.read(source)[queries], bits[target])
        everyone = np.sort(np.r_[queries, database])
        result["pair_recall"][direction] = dense_pairs(far, queries, everyone)
        result["asymmetric_pairs"][direction] = dense_pairs(weighted, queries, everyone)
        if store.modalities[source] == store.modalities[target]:
            cosines = unit(store.read(source)[queries]) @ unit(store.read(target)).T
            far_floats = np.round(-cosines, 9)
            result["float_pair_recall"][direction] = dense_pairs(far_floats, queries, everyone)
            result["kept"][direction] = [
                dense_kept(each[:, database], far_floats[:, database]) for each in (far, weighted)
            ]
        if labels is not None:
            relevant = relevance(labels[queries], labels[database])
            result["asymmetric"][direction] = dense_retrieval(weighted[:, database], relevant)
            result["retrieval"][direction] = dense_retrieval(far[:, database], relevant)
            far = np.array([[np.sum(a != b) for b in learned] for a in bits[source][queries]])
            relevant = relevance(labels[queries], labels[learned_rows])
            result["train_codes"][direction] = dense_retrieval(far, relevant)
    return result


def check(found: dict, trained, queries: np.ndarray, database: np.ndarray) -> None:
    expected = dense_evaluation(trained, queries, database)
    directions = [f"{a}_to_{b}" for a, b in permutations(trained.store.modalities, 2)]
    assert (found["queries"], found["database"]) == (len(queries), len(database))
    assert list(found["pair_recall"]) == directions
    for direction in directions:
        assert found["pair_recall"][direction] == pytest.approx(expected["pair_recall"][direction])
    for direction, pairs in expected["asymmetric_pairs"].items():
        assert found["asymmetric"]["pair_recall"][direction] == pytest.approx(pairs)
    for direction, values in expected["asymmetric"].items():
        for name in ("map", "map_at_50", "precision_at"):
            assert found["asymmetric"][name][direction] == pytest.approx(values[name])
    assert ("float_pair_recall" in found) == bool(expected["kept"])
    for direction, kept in expected["kept"].items():
        floats = expected["float_pair_recall"][direction]
        assert found["float_pair_recall"][direction] == pytest.approx(floats)
        shares = [found["neighbours_kept"][name][direction] for name in RANKINGS]
        assert shares == pytest.approx(kept, abs=0.01)  # the expected one is drawn
    for kind, part in (("retrieval", found), ("train_codes", found.get("train_codes"))):
        for direction, values in expected[kind].items():
            assert part["map"][direction] == pytest.approx(values["map"])
            assert part["map_at_50"][direction] == pytest.approx(values["map_at_50"])
            assert part["precision_at"][direction] == pytest.approx(values["precision_at"])
            curve = part["precision_recall"][direction]
            assert curve["radius"] == list(range(BITS + 1))
            assert curve["recall"] == pytest.approx(values["recall"])
            assert curve["precision"] == [
                None if p is None else pytest.approx(p) for p in values["precision"]
            ]
            assert part["queries_without_relevant"] == values["queries_without_relevant"]


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
    check(found, labelled, *split_rows(labelled.store))
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
    check(
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
    check(evaluate_model(trained.run.path, trained.store.path), trained, queries, database)


def test_without_labels_only_partners_are_scored(tmp_path):
    trained = trained_on(tmp_path, labels=None)
    found = evaluate_model(trained.run.path, trained.store.path)
    head = {"queries", "database", "queries_trained_on", "bits"}
    assert set(found) == head | {"pair_recall", "asymmetric"}
    assert set(found["asymmetric"]) == {"pair_recall"}
    check(found, trained, *split_rows(trained.store))


def test_three_modalities_are_scored_in_all_ordered_pairs(tmp_path):
    sound = make_pairs(seed=4)["text"][:, :9]
    trained = trained_on(tmp_path, sound=sound)
    found = evaluate_model(trained.run.path, trained.store.path)
    assert len(found["map"]) == len(found["train_codes"]["map"]) == 6
    check(found, trained, *split_rows(trained.store))


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
    check(found, trained, *split_rows(trained.store))
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
    check(found, trained, np.flatnonzero(split == 1), np.flatnonzero(split == 0))


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
