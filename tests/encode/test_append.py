"""Appending codes: as if all rows were encoded at once, atomic, resumable, with ids as keys."""

from __future__ import annotations

import json

import faiss
import numpy as np
import pytest
import usearch.index

from srch_dist.encode import __main__ as encode
from srch_dist.encode import append
from srch_dist.encode.append import append_codes, delete_codes
from srch_dist.encode.batch import encode_store
from srch_dist.encode.model import load_model
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import ConfigError, InputError
from srch_dist.export.append import append_index
from srch_dist.export.formats import export_codes
from srch_dist.search import __main__ as search
from srch_dist.search.hamming import search_codes, search_index
from srch_dist.storage.code_store import open_codes
from tests.helpers.runs import ROWS, make_pairs, make_store, train_here


def pairs_with_ids(rows: int, first: int, seed: int = 0) -> dict[str, np.ndarray]:
    ids = np.array([f"id{row}" for row in range(first, first + rows)])
    return make_pairs(rows, seed=seed, split=None, labels=None, ids=ids)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("append")
    store = make_store(folder / "old", 13, **pairs_with_ids(ROWS, 0))
    train_here(store.path, folder / "run", bits=24)
    # Rows 80 to 89 come again as other rows with their ids.
    make_store(folder / "new", 7, **pairs_with_ids(40, 80, seed=1))
    return folder


@pytest.fixture
def codes(made, tmp_path, monkeypatch):
    """Codes of the old rows in chunks of 13 rows."""
    monkeypatch.setattr("srch_dist.encode.batch._TASK_BYTES", 1)
    path = tmp_path / "codes.zarr"
    encode_store(made / "run", made / "old" / "pairs.zarr", "image", path)
    return path


def expected(made) -> np.ndarray:
    """Codes of the old and the new rows, by the model alone."""
    model = load_model(made / "run")
    parts = []
    for name in ("old", "new"):
        with np.load(made / name / "pairs.npz") as pairs:
            parts.append(encode_rows(model, "image", pairs["image"]))
    return np.concatenate(parts)


def new_rows(made, tmp_path, kind):
    if kind == "store":
        return made / "new" / "pairs.zarr"
    with np.load(made / "new" / "pairs.npz") as pairs:
        np.savez(tmp_path / "new.npz", image=pairs["image"], key=pairs["ids"])
    return tmp_path / "new.npz"


def check_appended(made, path):
    codes = open_codes(path)
    np.testing.assert_array_equal(codes.read(0, codes.rows), expected(made))
    np.testing.assert_array_equal(np.concatenate([run for _, run in codes.runs()]), expected(made))
    assert codes.read_ids(0, codes.rows).tolist() == [
        *(f"id{row}" for row in range(ROWS)),
        *(f"id{row}" for row in range(80, 120)),
    ]
    assert codes.deleted.tolist() == list(range(80, 90))
    assert [rows for rows, _ in codes.parts] == [ROWS, 40]
    assert len(codes.recorded) > 7  # every block is verified
    assert not path.with_name(f".{path.name}.append").exists()


@pytest.mark.parametrize("kind", ["store", "file"])
def test_appended_codes_are_those_of_all_rows(made, codes, tmp_path, kind):
    done = append_codes(made / "run", new_rows(made, tmp_path, kind), "image", codes)
    assert (done.rows, done.added, done.deleted) == (ROWS + 40, 40, 10)
    check_appended(made, codes)


class Killed(BaseException):
    """Ends an append as a signal would."""


@pytest.mark.parametrize("step", range(0, 14))
@pytest.mark.parametrize("kind", ["store", "file"])
def test_an_append_that_is_killed_resumes_and_readers_see_the_old_codes(
    made, codes, tmp_path, monkeypatch, step, kind
):
    """Killed after ``step`` writes or moves, whichever they are."""
    source, count = new_rows(made, tmp_path, kind), [0]

    def killing(function):
        def call(*arguments, **options):
            if count[0] == step:
                raise Killed
            count[0] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(append.arrays, "write_rows", killing(append.arrays.write_rows))
    monkeypatch.setattr(append, "_move_chunks", killing(append._move_chunks))
    monkeypatch.setattr(append, "_replace_metadata", killing(append._replace_metadata))
    monkeypatch.setattr("srch_dist.storage.journal.FLUSH_SECONDS", 0.0)
    before = open_codes(codes).read(0, ROWS)
    try:
        append_codes(made / "run", source, "image", codes)
    except Killed:
        old = open_codes(codes)
        assert old.rows == ROWS
        np.testing.assert_array_equal(old.read(0, ROWS), before)
        np.testing.assert_array_equal(old.read(85, ROWS), before[85:])
        count[0] = 100
        append_codes(made / "run", source, "image", codes)
    check_appended(made, codes)


def test_a_resumed_append_does_not_encode_its_blocks_again(made, codes, tmp_path, monkeypatch):
    real, calls = append.encode_rows, []

    def encode_until(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 3:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr("srch_dist.storage.journal.FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(append, "encode_rows", encode_until)
    source = new_rows(made, tmp_path, "store")
    with pytest.raises(Killed):
        append_codes(made / "run", source, "image", codes)
    append_codes(made / "run", source, "image", codes)
    assert sum(calls) == 40 + calls[2]  # the third block alone is encoded twice
    check_appended(made, codes)


def test_the_same_rows_are_not_appended_twice(made, codes, tmp_path):
    for kind in ("store", "file"):
        source = new_rows(made, tmp_path, kind)
        if kind == "store":
            append_codes(made / "run", source, "image", codes)
        with pytest.raises(InputError, match=r"holds the rows of .* already"):
            append_codes(made / "run", source, "image", codes)
    check_appended(made, codes)


def test_deleted_rows_are_not_found(codes):
    query = open_codes(codes).read(5, 6)
    assert search_codes(open_codes(codes), query, 1).distances.tolist() == [[0]]
    twins = np.flatnonzero((open_codes(codes).read(0, ROWS) == query).all(axis=1))
    done = delete_codes(codes, [f"id{row}" for row in twins])
    assert (done.rows, done.deleted) == (ROWS, len(twins))
    found = search_codes(open_codes(codes), query, ROWS)
    assert found.rows.shape[1] == ROWS - len(twins)
    assert not set(twins) & set(found.rows[0].tolist())
    with pytest.raises(InputError, match="no row with the id 'id5'"):
        delete_codes(codes, ["id5"])
    with pytest.raises(InputError, match="no row with the id 'nobody'"):
        delete_codes(codes, ["nobody"])


def test_codes_without_ids_delete_by_number(made, tmp_path):
    np.save(tmp_path / "old.npy", make_pairs(30)["image"])
    path = encode_store(made / "run", tmp_path / "old.npy", "image", tmp_path / "codes.zarr")
    delete_codes(path, ["3", "4"])
    assert open_codes(path).deleted.tolist() == [3, 4]
    with pytest.raises(InputError, match="there is no row 30"):
        delete_codes(path, ["30"])
    with pytest.raises(InputError, match="has no ids; name rows by their numbers"):
        delete_codes(path, ["a"])


@pytest.mark.parametrize("form", ["faiss", "faiss-ivf", "usearch"])
def test_an_exported_index_gains_the_appended_rows(made, codes, tmp_path, form):
    path = tmp_path / "index"
    lists = 4 if form == "faiss-ivf" else None
    export_codes(open_codes(codes), path, form, lists=lists)
    append_codes(made / "run", new_rows(made, tmp_path, "store"), "image", codes)
    stored = open_codes(codes)
    query = expected(made)[[7, 100]]
    if form != "usearch":
        with pytest.raises(InputError, match=r"Add the new ones with: .* --append"):
            search_index(path, query, 5, codes=stored)
    assert append_index(stored, path, form) == 40
    exact = search_codes(stored, query, 10)
    if form == "usearch":
        index = usearch.index.Index.restore(str(path))
        assert len(index) == ROWS + 40 - 10
        found = index.search(query, 10, exact=True)
        np.testing.assert_array_equal(found.distances, exact.distances)
    else:
        near = search_index(path, query, 10, 4, stored)
        np.testing.assert_array_equal(near.distances, exact.distances)
        assert faiss.read_index_binary(str(path)).ntotal == ROWS + 40
    if form == "faiss-ivf":
        assert json.loads((tmp_path / "index.json").read_text())["queries"] == ROWS + 40
    assert append_index(stored, path, form) == 0


def test_an_index_of_other_codes_does_not_grow(made, codes, tmp_path):
    other = encode_store(made / "run", made / "old" / "pairs.zarr", "text", tmp_path / "t.zarr")
    export_codes(open_codes(other), tmp_path / "index", "faiss")
    with pytest.raises(InputError, match="is not an index of the codes"):
        append_index(open_codes(codes), tmp_path / "index", "faiss")
    with pytest.raises(ConfigError, match="parquet cannot grow"):
        append_index(open_codes(codes), tmp_path / "index", "parquet")


def test_other_modalities_models_and_keys_are_refused(made, codes, tmp_path):
    new = made / "new" / "pairs.zarr"
    with pytest.raises(InputError, match="holds codes of image, not of text"):
        append_codes(made / "run", new, "text", codes)
    np.save(tmp_path / "bare.npy", make_pairs(5)["image"])
    with pytest.raises(InputError, match="has ids, but the new rows have none"):
        append_codes(made / "run", tmp_path / "bare.npy", "image", codes)
    np.savez(tmp_path / "twice.npz", image=make_pairs(5)["image"], ids=np.array(["a"] * 5))
    with pytest.raises(InputError, match="two of the new rows have the id 'a'"):
        append_codes(made / "run", tmp_path / "twice.npz", "image", codes)
    other = train_here(made / "old" / "pairs.zarr", tmp_path / "run", bits=24, seed=5)
    with pytest.raises(InputError, match="encoded with another model"):
        append_codes(other.run.path, new, "image", codes)
    assert open_codes(codes).rows == ROWS


def test_the_commands_append_delete_search_and_export(made, codes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(made)
    there = ["--model", "run", "--append", str(codes)]
    encode.main([*there, "--data", "new/pairs.zarr", "--modality", "image"])
    assert capsys.readouterr().out.strip() == f"codes: {codes} rows=130 added=40 deleted=10"
    (tmp_path / "gone").write_text("id100\nid3\n")
    encode.main([*there, "--delete", f"@{tmp_path / 'gone'}"])
    assert capsys.readouterr().out.strip() == f"codes: {codes} rows=130 added=0 deleted=2"
    stores = "old/pairs.zarr,new/pairs.zarr"
    line = ["--model", "run", "--codes", str(codes), "--data", stores, "--id", "id101", "--json"]
    search.main([*line, "--show", "ids", "--top", "118"])
    (record,) = json.loads(capsys.readouterr().out)
    assert record["results"][0]["distance"] == 0
    found = [item["ids"] for item in record["results"]]
    assert sorted(found) == sorted(f"id{n}" for n in range(120) if n not in (3, 100))
    with pytest.raises(SystemExit):
        search.main([*line[:5], "new/pairs.zarr,old/pairs.zarr", *line[6:]])
    assert "in the order in which they were encoded" in capsys.readouterr().err


def test_options_that_do_not_fit_are_refused(made, capsys):
    for options, message in (
        ([], "give what to encode: --data and --modality"),
        (["--data", "x.npy", "--modality", "image"], "give --out for new codes, or --append"),
        (["--delete", "a"], "--delete needs --append CODES"),
    ):
        with pytest.raises(SystemExit) as end:
            encode.main(["--model", str(made / "run"), *options])
        assert end.value.code == 2
        assert message in capsys.readouterr().err


def test_exports_leave_out_deleted_rows(made, codes, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    append_codes(made / "run", made / "new" / "pairs.zarr", "image", codes)
    path = export_codes(open_codes(codes), tmp_path / "a.parquet", "parquet")
    assert pq.read_table(path)["row"].to_pylist() == [n for n in range(130) if not 80 <= n < 90]


def test_appends_follow_each_other(made, codes, tmp_path):
    """Five appends of a few rows give the codes of all rows, whatever the ends of chunks."""
    model, rows = load_model(made / "run"), make_pairs(60, seed=3)["image"]
    start = 0
    for size in (1, 2, 23, 13, 21):
        ids = np.array([f"x{n}" for n in range(start, start + size)])
        np.savez(tmp_path / f"{start}.npz", image=rows[start : start + size], ids=ids)
        append_codes(made / "run", tmp_path / f"{start}.npz", "image", codes)
        start += size
    stored = open_codes(codes)
    found = stored.read(ROWS, stored.rows)
    np.testing.assert_array_equal(found, encode_rows(model, "image", rows))
    assert len(stored.parts) == 6
    assert stored.read_ids(ROWS, stored.rows).tolist() == [f"x{n}" for n in range(60)]
