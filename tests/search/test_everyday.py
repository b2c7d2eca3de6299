"""Search by id and file, with filters and shown columns, over images and texts together."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from srch_dist.encode.batch import encode_store
from srch_dist.errors import ConfigError, InputError
from srch_dist.export.formats import export_codes
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.search import __main__ as search
from srch_dist.search.collection import Part, search_parts
from srch_dist.search.filters import filter_rows
from srch_dist.search.hamming import search_codes, search_index
from srch_dist.search.queries import rows_of_ids
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.feature_store import open_store
from tests.helpers.runs import ROWS, make_pairs, make_store, train_here

NUMBERS = np.arange(ROWS)
SIDE = {
    "ids": np.array([f"id{row}" for row in NUMBERS]),
    "titles": np.array([["red shoe", "blue boot", "red hat"][row % 3] for row in NUMBERS]),
    "price": NUMBERS * 0.5,
    "stock": (NUMBERS % 5).astype(np.uint8),
    "sold": NUMBERS % 2 == 0,
    "labels": np.eye(4, dtype=np.uint8)[NUMBERS % 4],
}
TITLES, PRICE, STOCK, SOLD = (SIDE[name] for name in ("titles", "price", "stock", "sold"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everyday")
    pairs = make_pairs(split=None, labels=None)
    store = ingest_source(pairs | SIDE, folder / "pairs.zarr", ["image", "text"], 13, side=[*SIDE])
    train_here(store.path, folder / "run", bits=24)
    for modality in ("image", "text"):
        encode_store(folder / "run", store.path, modality, folder / f"{modality}.zarr")
    np.save(folder / "queries.npy", store.read("text", 4, 9))
    np.savez(folder / "several.npz", a=store.read("text", 4, 9), b=store.read("text", 20, 22))
    return folder


@pytest.fixture
def run(made, monkeypatch, capsys):
    """Run search in the folder, and return its standard output and error."""
    monkeypatch.chdir(made)

    def call(*arguments, codes="image.zarr"):
        search.main(["--model", "run", "--codes", codes, *arguments])
        return capsys.readouterr()

    return call


@pytest.fixture
def parts(made):
    return open_codes(made / "image.zarr"), open_codes(made / "text.zarr")


FILTERS = [
    ("price < 10", PRICE < 10),
    ("2 <= price <= 3.5 or stock == 4", ((PRICE >= 2) & (PRICE <= 3.5)) | (STOCK == 4)),
    ('titles in ("red hat", "blue boot")', np.isin(TITLES, ["red hat", "blue boot"])),
    ('titles not in ("red hat",) and not sold', (TITLES != "red hat") & ~SOLD),
    ('contains(titles, "red") and price + stock > 30', (NUMBERS % 3 != 1) & (PRICE + STOCK > 30)),
    ('startswith(titles, "blue")', TITLES == "blue boot"),
    ('endswith(titles, "hat") and sold', (TITLES == "red hat") & SOLD),
    ('matches(lower(titles), "^red (hat|shoe)$")', TITLES != "blue boot"),
    ("length(titles) > 7 and price >= -1", np.array([len(title) > 7 for title in TITLES])),
    ("labels[2] == 1", NUMBERS % 4 == 2),
    ('ids == "id17"', NUMBERS == 17),
]


@pytest.mark.parametrize(("text", "expected"), FILTERS, ids=[text for text, _ in FILTERS])
def test_filters_select_the_rows_of_numpy(made, text, expected):
    np.testing.assert_array_equal(filter_rows(open_store(made / "pairs.zarr"), text), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price <", "cannot parse --filter 'price <'; example: "),
        ("prise < 3", "no side column 'prise'; .* did you mean price"),
        ("price == 'cheap'", "does not fit the columns: "),
        ("__import__('os').system('true')", "cannot hold"),
        ("contain(titles, 'x')", "no function 'contain'.* did you mean contains"),
        ("contains(titles)", r'write contains\(column, "text"\)'),
        ("price is 3", "cannot compare with .*; use =="),
        ("[x for x in price]", "cannot hold"),
        ("price in stock", "write `column in"),
    ],
)
def test_other_expressions_are_refused(made, text, message):
    with pytest.raises(ConfigError, match=message):
        filter_rows(open_store(made / "pairs.zarr"), text)


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_filtered_search_is_the_search_of_the_allowed_rows(made, parts, share):
    codes = parts[0]
    allowed = np.random.default_rng(1).random(ROWS) < share
    allowed[7] = True
    values = codes.read(0, ROWS)
    queries = values[[1, 50]] ^ np.uint8(3)
    distances = np.bitwise_count(values[None] ^ queries[:, None]).sum(axis=2, dtype=np.int64)
    distances[:, ~allowed] = 1000
    top = min(10, int(allowed.sum()))
    expected = np.sort(distances, axis=1)[:, :top]
    found = search_codes(codes, queries, 10, allowed=allowed)
    np.testing.assert_array_equal(found.distances, expected)
    assert allowed[found.rows].all()
    for form, options in (("faiss", {}), ("faiss-ivf", {"lists": 4})):
        path = made / f"{form}-{share}"
        export_codes(codes, path, form, **options)
        near = search_index(path, queries, 10, 4, codes, allowed)
        np.testing.assert_array_equal(near.distances, expected)
        assert allowed[near.rows].all()


def test_a_filter_of_no_row_is_refused(parts):
    with pytest.raises(InputError, match="the filter matches none"):
        search_codes(parts[0], parts[0].read(0, 1), 3, allowed=np.zeros(ROWS, bool))


def test_the_command_filters_and_shows_columns(run):
    arguments = ["--data", "pairs.zarr", "--query", "4", "--top", "5", "--filter", "price < 10"]
    printed = run(*arguments, "--show", "price,stock", "--json")
    (record,) = json.loads(printed.out)
    assert all(item["row"] < 20 for item in record["results"])
    for item in record["results"]:
        assert item["price"] == PRICE[item["row"]]
        assert item["stock"] == STOCK[item["row"]]
    assert f"filter: 20 of {ROWS} rows may be found" in printed.err
    assert re.search(r"search: queries=1 rows=90 seconds=0\.\d+ exact", printed.err)
    assert "price" in run(*arguments, "--show", "price").out


def test_ids_name_rows(run):
    there = ["--data", "pairs.zarr", "--modality", "text", "--top", "3", "--json"]
    found = json.loads(run(*there, "--id", "id4,id71").out)
    expected = json.loads(run(*there, "--query", "4,71").out)
    assert [record["query"] for record in found] == ["id4", "id71"]
    assert [record["results"] for record in found] == [record["results"] for record in expected]


def test_queries_come_from_any_file(run):
    there = ["--modality", "text", "--top", "3", "--json"]
    expected = json.loads(run(*there, "--query-file", "queries.npy").out)
    assert len(expected) == 5
    found = run(*there, "--query-file", "several.npz", "--array", "a")
    assert json.loads(found.out) == expected


def test_many_queries_are_one_table_or_lines_of_json(run):
    rows = ",".join(str(row % ROWS) for row in range(200))
    arguments = ["--query", rows, "--top", "2"]
    lines = [json.loads(line) for line in run(*arguments, "--json-lines").out.splitlines()]
    assert lines == json.loads(run(*arguments, "--json").out)
    assert len(lines) == 200
    table = run(*arguments).out
    assert table.count("distance") == 1
    assert all(f"row {row} " in table for row in range(ROWS))


def test_images_and_texts_are_searched_as_one(run, parts):
    values = [codes.read(0, ROWS) for codes in parts]
    both = np.concatenate(values)
    query = values[1][[4]]
    distances = np.bitwise_count(both ^ query).sum(axis=1, dtype=np.int64)
    order = np.argsort(distances, kind="stable")[:10]
    (record,) = json.loads(
        run(
            *("--data", "pairs.zarr", "--modality", "text", "--query", "4", "--json"),
            codes="image.zarr,text.zarr",
        ).out
    )
    found = record["results"]
    assert [item["distance"] for item in found] == distances[order].tolist()
    assert {item["modality"] for item in found} == {"image", "text"}
    for item in found:
        place = item["row"] + (ROWS if item["modality"] == "text" else 0)
        assert distances[place] == item["distance"]
    result = search_parts([Part(codes) for codes in parts], query, 10)
    assert result.parts is not None
    near = [(item["row"], ["image", "text"].index(item["modality"])) for item in found]
    assert near == list(zip(result.rows[0], result.parts[0], strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id", "id4"], "--id needs --data"),
        (["--id", "id999", "--data", "pairs.zarr"], "no row of .* has the id 'id999'"),
        (["--query", "3", "--filter", "price < 1"], "--filter needs --data"),
        (["--query", "3", "--show", "url"], "--show needs --data"),
        (["--query", "3", "--data", "pairs.zarr", "--show", "prize"], "did you mean price"),
        (["--query", "3", "--array", "a"], "--array names an array of --query-file"),
    ],
)
def test_what_is_missing_is_said(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_id_of_two_rows_is_refused(tmp_path):
    ids = np.where(NUMBERS == 50, "id7", SIDE["ids"])
    store = make_store(tmp_path, 13, **make_pairs(ids=ids))
    with pytest.raises(InputError, match=r"rows 7 and 50 of .* both have the id 'id7'"):
        rows_of_ids(["id7"], store)
