"""Lists of row numbers become a split, or are refused with their values and places."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
import scipy.io

from srch_dist.errors import ConfigError, InputError
from srch_dist.ingest import __main__ as command
from srch_dist.ingest import pipeline
from srch_dist.ingest.index_lists import IndexLists, parse_lists
from srch_dist.ingest.naming import index_part
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage.feature_store import open_store
from tests.helpers.ingest import ROWS, make_pairs, notes_of

PAIRS = {name: make_pairs()[name] for name in ("image", "text")}
ORDER = np.random.default_rng(3).permutation(ROWS)
QUERY, TRAIN = ORDER[:5], ORDER[5:15]
SPLIT = np.full(ROWS, 2)
SPLIT[QUERY], SPLIT[TRAIN] = 1, 0


def write(folder, ending: str, arrays: dict) -> str:
    path = str(folder / f"a{ending}")
    if ending == ".npz":
        np.savez(path, **arrays)
    elif ending == ".mat":
        scipy.io.savemat(path, {k: v.astype(float) for k, v in arrays.items()})
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


@pytest.mark.parametrize("ending", [".npz", ".mat", ".h5"])
@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("side", [(), ("--side", "")])
def test_command_makes_a_split(tmp_path, ending, base, side):
    lists = {"indexQuery": QUERY[None] + base, "param_tr": TRAIN[:, None] + base}
    path = write(tmp_path, ending, PAIRS | lists)
    options = ["--split-from", "query=indexQuery,train=param_tr", "--index-base", str(base)]
    command.main([path, str(tmp_path / "b.zarr"), *options, *side])
    store = open_store(tmp_path / "b.zarr")
    np.testing.assert_array_equal(store.read("split"), SPLIT)
    assert set(store.side) == {"split"}


def test_rows_in_no_list_are_the_database_without_a_train_list(tmp_path):
    lists = IndexLists({"query": "test_idx"})
    store = ingest_source(PAIRS | {"test_idx": QUERY}, tmp_path / "a.zarr", split_from=lists)
    np.testing.assert_array_equal(store.read("split"), np.isin(np.arange(ROWS), QUERY))


@pytest.mark.parametrize("roles", [None, ["image", "text"]])
def test_matlab_lists_that_reach_both_ends_are_numbered_from_one(tmp_path, roles):
    rest = np.setdiff1d(np.arange(ROWS), QUERY)
    path = write(tmp_path, ".mat", PAIRS | {"q": QUERY + 1, "d": rest + 1})
    lists = IndexLists({"query": "q", "database": "d"})
    store = ingest_source(path, tmp_path / "a.zarr", roles, split_from=lists)
    np.testing.assert_array_equal(store.read("split"), np.isin(np.arange(ROWS), QUERY))
    path = write(tmp_path, ".mat", PAIRS | {"q": QUERY, "d": rest})
    store = ingest_source(path, tmp_path / "b.zarr", roles, split_from=lists)
    np.testing.assert_array_equal(store.read("split"), np.isin(np.arange(ROWS), QUERY))


@pytest.mark.parametrize(
    ("ending", "query", "train", "problem"),
    [
        (
            ".mat",
            [2, 3],
            [4, 5],
            "q, t: row numbers 2 to 5 for 23 rows. The first row can be 0 or 1",
        ),
        (".npz", [2, ROWS], [4], f"q entry 1 is {ROWS}, expected 0 to {ROWS - 1} for {ROWS} rows."),
        (".npz", [2, ROWS], [4], "If rows are numbered from 1, add --index-base 1."),
        (".npz", [2, -1], [4], "q entry 1 is -1, expected 0 to"),
        (".mat", [0, ROWS], [4], f"q entry 1 is {ROWS}, expected 0 to"),
        (".npz", [2, 7, 2], [4], "q lists row 2 twice, in entries 0 and 2"),
        (".npz", [2, 7], [4, 7], "q and t share 1 rows: row 7 is entry 1 of q and entry 1 of t"),
        (".npz", [2.5, 7], [4], "q entry 0 is 2.5; expected a row number"),
        (".npz", [np.nan, 7], [4], "q entry 0 is nan; expected a row number"),
        (".npz", [[1, 2], [3, 4]], [4], "q has shape (2, 2) of int64; expected a list of row"),
        (".npz", ["a", "b"], [4], "q has shape (2,) of <U1; expected a list"),
        (".npz", [], [4], "q is empty; expected a list of row numbers"),
    ],
)
def test_wrong_lists_are_refused(tmp_path, ending, query, train, problem):
    path = write(tmp_path, ending, PAIRS | {"q": np.array(query), "t": np.array(train)})
    with pytest.raises(InputError, match=re.escape(problem)):
        ingest_source(
            path, tmp_path / "a.zarr", split_from=IndexLists({"query": "q", "train": "t"})
        )
    assert not (tmp_path / "a.zarr").exists()


def test_a_split_that_is_there_and_a_list_that_is_not(tmp_path):
    lists = IndexLists({"query": "q"})
    with pytest.raises(InputError, match="already has an array 'split'"):
        ingest_source(PAIRS | {"q": QUERY, "split": SPLIT}, tmp_path / "a.zarr", split_from=lists)
    with pytest.raises(InputError, match="--split-from: there is no array 'q'"):
        ingest_source(PAIRS, tmp_path / "a.zarr", split_from=lists)


@pytest.mark.parametrize(
    ("items", "base", "problem"),
    [
        (["train=a"], None, "write query=ARRAY"),
        (["query=a", "test=b"], None, "write query=ARRAY"),
        (["query"], None, "write query=ARRAY"),
        (["query=a", "query=b"], None, "write query=ARRAY"),
        (["query=a", "train=b", "database=c"], None, "means the same as"),
        (["query=a"], 2, "--index-base is 2, expected 0 or 1"),
        (None, 1, "--split-from is not given"),
    ],
)
def test_options_are_checked(items, base, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_lists(items, base)


def test_lists_are_pointed_out_with_the_line_to_type(tmp_path, monkeypatch):
    line = "--split-from query=indexQuery,train=param_tr"
    arrays = PAIRS | {"indexQuery": QUERY, "param_tr": TRAIN}
    assert f"param_tr look like lists of row numbers. To make a split, type: {line}" in (
        " ".join(notes_of(tmp_path, arrays, saved=False))
    )
    again = notes_of(tmp_path / "again", arrays | {"split": SPLIT}, saved=False)
    assert "--split-from" not in " ".join(again)
    monkeypatch.setattr(pipeline, "MAX_ATTRIBUTE_VALUES", 3)
    with pytest.raises(InputError, match=f"or a small attribute .* type: {line}"):
        ingest_source(arrays, tmp_path / "large.zarr")


def test_names_of_lists():
    found = {name: index_part(name) for name in ("param_te", "indexTrain", "train_id", "query_idx")}
    assert found == {
        "param_te": "query", "indexTrain": "train", "train_id": "train", "query_idx": "query"
    }  # fmt: skip
    assert not any(map(index_part, ("index", "I_te", "test_image", "id", "text_id", "query")))
