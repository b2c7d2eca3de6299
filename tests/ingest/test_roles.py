"""Roles of arrays: labels and parts of a split are no modalities, and named arrays decide."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
import scipy.io

from srch_dist.errors import InputError
from srch_dist.ingest import pipeline, transposing
from srch_dist.ingest.naming import SIDE_NAMES, is_label_name, split_parts
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.arrays import ArraySource
from tests.helpers.ingest import ROWS, make_pairs, notes_of

HOT = np.eye(3)[np.arange(ROWS) % 3]


def save(path, arrays):
    """Write arrays in the format of the path's ending."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values


def typed(message):
    """The options that a message asks to type."""
    found = re.search(r"type: --modalities (\S+)(?: --side (\S+))?$", message, re.IGNORECASE)
    assert found, message
    return {"modalities": found[1].split(","), "side": found[2] and found[2].split(",")}


def refusal_of(source, tmp_path):
    with pytest.raises(InputError) as refused:
        ingest_source(source, tmp_path / "store.zarr")
    assert not (tmp_path / "store.zarr").exists()
    return str(refused.value)


@pytest.mark.parametrize("ending", [".npz", ".mat", ".h5", "memory"])
@pytest.mark.parametrize(
    "names", [("XAll", "YAll", "LAll"), ("I", "T", "L"), ("img", "txt", "gnd")]
)
def test_labels_are_refused_as_a_modality_with_the_line_to_type(tmp_path, ending, names):
    pairs = make_pairs(titles=np.arange(ROWS) if ending == ".h5" else None)
    values = [pairs["image"], pairs["text"], HOT]
    arrays = dict(zip(names, values, strict=True)) | {
        name: array for name, array in pairs.items() if name == "titles"
    }
    source = arrays if ending == "memory" else tmp_path / f"source{ending}"
    if ending != "memory":
        save(source, arrays)
    message = refusal_of(source, tmp_path)
    assert f"{names[2]} has a name that is usual for labels" in message
    options = typed(message)
    store = ingest_source(source, tmp_path / "store.zarr", **options)
    assert dict(store.modalities) == {"image": 6, "text": 4}
    assert store.side == ("labels", "titles") if ending == ".h5" else ("labels",)
    np.testing.assert_array_equal(store.read("labels"), HOT)


@pytest.mark.parametrize(
    "values",
    [HOT, np.where(HOT, 1.0, -1.0), np.minimum(HOT + HOT[:, ::-1], 1), np.eye(ROWS, 400)],
    ids=["one-hot", "minus-one", "multi-hot", "wide one-hot"],
)
def test_values_of_labels_are_refused_whatever_the_name(tmp_path, values):
    message = refusal_of(make_pairs(other=values), tmp_path)
    assert "other holds only 0 and 1" in message
    assert typed(message) == {"modalities": ["image", "text"], "side": ["labels=other"]}


@pytest.mark.parametrize(
    "values",
    [np.ones((ROWS, 2)), np.zeros((ROWS, 2)), HOT * 0.5, np.eye(ROWS, 400) + np.eye(ROWS, 400, 1)],
)
def test_other_values_are_a_modality(tmp_path, values):
    store = ingest_source(make_pairs(other=values), tmp_path / "store.zarr")
    assert list(store.modalities) == ["image", "text", "other"]


@pytest.mark.parametrize("name", ["label", "Labels", "LABEL"])
def test_a_matrix_named_label_is_the_labels(tmp_path, name):
    store = ingest_source(make_pairs(**{name: HOT}), tmp_path / "store.zarr")
    assert list(store.modalities) == ["image", "text"]
    assert store.side == ("labels",)


def test_the_line_keeps_the_other_side_arrays(tmp_path):
    arrays = make_pairs(LAll=HOT, split=np.arange(ROWS) % 2, caption=np.array(["x"] * ROWS))
    options = typed(refusal_of(arrays, tmp_path))
    store = ingest_source(arrays, tmp_path / "store.zarr", **options)
    assert set(store.side) == {"labels", "split", "titles"}


def test_named_modality_with_labels_is_taken_with_a_warning(tmp_path):
    notes = notes_of(tmp_path, make_pairs(LAll=HOT), modalities=["image", "LAll"])
    assert any(note.startswith("warning: modality LAll") for note in notes)
    with pytest.raises(InputError, match="At least two modalities"):
        ingest_source({"image": HOT + 0.5, "LAll": HOT}, tmp_path / "other.zarr")


def test_labels_of_integers_are_pointed_out(tmp_path):
    notes = notes_of(tmp_path, make_pairs(LAll=HOT.astype(np.uint8)))
    assert any("to score MAP with them, add --side labels=LAll" in note for note in notes)


@pytest.mark.parametrize("ending", [".npz", ".mat", ".h5", "memory"])
@pytest.mark.parametrize("first", [ROWS - 9, ROWS - 11, 12])
@pytest.mark.parametrize(
    "names", ["{}_tr {}_te", "{}_database {}_query", "{}Train {}Test", "test_{} train_{}"]
)
def test_parts_of_a_split_are_stacked_with_the_line_to_type(tmp_path, ending, first, names):
    train, test = names.split() if "test_{}" not in names else names.split()[::-1]
    pairs = make_pairs(rows=24)
    whole = {"I": pairs["image"], "T": pairs["text"], "L": np.arange(24) % 4 + 1.0}
    arrays = {train.format(name): values[:first] for name, values in whole.items()}
    arrays |= {test.format(name): values[first:] for name, values in whole.items()}
    if ending == ".mat":  # MATLAB has columns
        arrays = {n: v[:, None] if v.ndim == 1 else v for n, v in arrays.items()}
    source = arrays if ending == "memory" else tmp_path / f"source{ending}"
    if ending != "memory":
        save(source, arrays)
    message = refusal_of(source, tmp_path)
    assert "look like parts of one array" in message
    store = ingest_source(source, tmp_path / "store.zarr", rows_per_chunk=5, **typed(message))
    assert dict(store.modalities) == {"image": 6, "text": 4}
    np.testing.assert_array_equal(store.read("image"), pairs["image"])
    np.testing.assert_array_equal(store.read("labels"), whole["L"])
    np.testing.assert_array_equal(store.read("split"), np.arange(24) >= first)


def test_stacked_parts_must_fit(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(12, 3)) for name in ("i_tr", "i_te", "t_tr", "t_te")}
    for name, values, message in [
        ("t_te", np.ones((11, 3)), "must have equal numbers of rows.*12 \\+ 12; .*12 \\+ 11"),
        ("t_te", np.ones((12, 4)), "may differ only in their number of rows"),
        ("gone", np.ones(12), "no array 'lost' to stack"),
    ]:
        lost = "lost" if name == "gone" else "t_te"
        with pytest.raises(InputError, match=message):
            ingest_source(
                arrays | {name: values},
                tmp_path / "store.zarr",
                ["image=i_tr+i_te", f"text=t_tr+{lost}"],
            )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_split_of_whole_doubles_is_stored_as_integers(tmp_path, dtype):
    split = (np.arange(ROWS) > 15).astype(dtype)
    store = ingest_source(make_pairs(split=split), tmp_path / "store.zarr", rows_per_chunk=4)
    assert store.read("split").dtype == np.int64
    np.testing.assert_array_equal(store.read("split"), split)


class Partial(ArraySource):
    """Arrays, and some that cannot be read."""

    unreadable = None

    def __init__(self, arrays):
        super().__init__({name: values for name, values in arrays.items() if values is not None})
        self.unreadable = {
            name: "has missing chunks. Write it again."
            for name, values in arrays.items()
            if values is None
        }


@pytest.mark.parametrize("name", [*SIDE_NAMES, "Titles", "audio_emb", "LAll", "X"])
def test_unreadable_array_is_refused_unless_modalities_are_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr(pipeline, "ArraySource", Partial)
    arrays = {**make_pairs(), name: None}
    message = refusal_of(arrays, tmp_path)
    assert f"{name} has missing chunks. Write it again. To leave {name} out: --mod" in message
    notes = notes_of(tmp_path, arrays, saved=False, modalities=["image", "text"])
    assert f"left out {name}: has missing chunks. Write it again." in notes
    for named in (
        {"side": [name]},
        {"modalities": ["image", "text"], "side": [f"a={name}"]},
        {"modalities": [f"a={name}+image", "text"]},
    ):
        with pytest.raises(InputError, match=f"{name} has missing chunks"):
            ingest_source(arrays, tmp_path / "other.zarr", **named)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mask", np.ones(ROWS, complex)),
        ("file", np.array([b"x"] * ROWS)),
        ("taken", np.datetime64("2024-05-01") + np.arange(ROWS)),
        ("boxes", np.zeros(ROWS, [("x", "f4")])),
    ],
)
def test_what_is_neither_numbers_nor_text_is_left_out(tmp_path, name, values):
    notes = notes_of(tmp_path, make_pairs(**{name: values}), saved=False)
    assert any(re.match(f"(skipped|left out) {name}: ", note) for note in notes)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("labels", np.ones(ROWS - 1)),
        ("split", np.ones(3, complex)),
        ("other", np.zeros(100_001)),
        ("a b", np.ones(ROWS)),
    ],
)
def test_nothing_but_named_arrays_stops_an_ingest_with_modalities(tmp_path, name, values):
    arrays = make_pairs(**{name: values})
    notes = notes_of(tmp_path, arrays, saved=False, modalities=["image", "text"])
    assert any(note.startswith((f"left out {name}: ", f"skipped {name}: ")) for note in notes)


def test_names_of_labels_and_parts():
    labels = "L LAll L_tr trainL label img_labels one_hot target y_class ground_truth labels_all"
    others = "XAll vit_l_14 class_token_emb latest_text context image level clip_l_emb table"
    assert all(is_label_name(name) for name in labels.split())
    assert not any(is_label_name(name) for name in others.split())
    assert split_parts(["image", "text", "vit_base", "context"]) == {}
    assert split_parts(["Xtr", "Xte"]) == {"x": {"train": "Xtr", "query": "Xte"}}
    assert split_parts(["image", "image_test"]) == {
        "image": {"query": "image_test", "train": "image"}
    }


@pytest.mark.parametrize("ending", [".npz", ".h5", "memory"])
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_matrices_of_columns_are_transposed(tmp_path, ending, block, monkeypatch):
    monkeypatch.setattr(transposing, "_BLOCK_BYTES", block)
    pairs = make_pairs()
    arrays = {name: values.T.copy() for name, values in pairs.items()}
    source = arrays if ending == "memory" else tmp_path / f"source{ending}"
    if ending != "memory":
        save(source, arrays)
    message = refusal_of(source, tmp_path)
    assert "type --modalities image=image.T,text=text.T" in message
    for at, modalities in enumerate((["image=image.T", "text=text.T"], ["image.T", "text.T"])):
        store = ingest_source(source, tmp_path / f"{at}.zarr", modalities, rows_per_chunk=5)
        assert list(store.modalities) == ["image", "text"]
        for name, values in pairs.items():
            np.testing.assert_array_equal(store.read(name), values)


def test_matrices_of_more_columns_than_rows_are_pointed_out(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 40))
    notes = notes_of(tmp_path, {"image": values, "text": values + 1})
    assert any("type --modalities image=image.T,text=text.T" in note for note in notes)


def test_transposed_parts_are_stacked(tmp_path):
    pairs = make_pairs()
    arrays = {f"{name}_tr": values[:9].T for name, values in pairs.items()}
    arrays |= {f"{name}_te": values[9:].T for name, values in pairs.items()}
    modalities = [f"{name}={name}_tr.T+{name}_te.T" for name in pairs]
    store = ingest_source(arrays, tmp_path / "store.zarr", modalities)
    np.testing.assert_array_equal(store.read("text"), pairs["text"])
    np.testing.assert_array_equal(store.read("split"), np.arange(ROWS) >= 9)
