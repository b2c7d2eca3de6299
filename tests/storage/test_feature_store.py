"""Feature stores: only finished and whole ones are opened."""

from __future__ import annotations

import json
import pickle
import shutil
import zlib

import numpy as np
import pytest

from srch_dist.errors import InputError, StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage.feature_store import FeatureWriter, open_store
from tests.helpers.runs import exchange_chunk

ROWS = 20


@pytest.fixture
def arrays():
    rng = np.random.default_rng(2)
    return {
        "image": rng.normal(size=(ROWS, 5)),
        "text": rng.normal(size=(ROWS, 3)).astype(np.float32),
        "labels": rng.integers(1, 5, ROWS),
        "titles": np.array([f"row {row}" for row in range(ROWS)]),
    }


@pytest.fixture
def store(arrays, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    return ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr", rows_per_chunk=6)


def test_rows_are_shown_as_text(tmp_path):
    pairs = {
        "image": np.ones((2, 3)),
        "text": np.ones((2, 3)),
        "ids": np.array([[2**64 - 1], [7]], np.uint64),
        "titles": np.array([["A dog", " runs, fast "], ["", ""]]),
    }
    store = ingest_source(pairs, tmp_path / "shown.zarr")
    assert [store.show("ids", row) for row in (0, 1)] == ["18446744073709551615", "7"]
    assert [store.show("titles", row) for row in (0, 1)] == ["A dog / runs, fast", ""]


def edit_manifest(path, **changes) -> None:
    """Change entries of the manifest in the group's attributes; None takes one out."""
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    manifest = content["attributes"]["srch_dist"]
    manifest.update(changes)
    content["attributes"]["srch_dist"] = {k: v for k, v in manifest.items() if v is not None}
    file.write_text(json.dumps(content))


def test_manifest_describes_the_store(store, arrays, tmp_path):
    content = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    manifest = content["attributes"]["srch_dist"]
    checksums = manifest.pop("checksums")
    assert list(checksums) == list(arrays)
    for name in ("image", "text", "labels"):
        assert checksums[name] == zlib.crc32(arrays[name].tobytes())
    runs = manifest.pop("runs")
    assert list(runs) == list(arrays)
    assert [run[:2] for run in runs.pop("titles")] == [[0, 6], [6, 12], [12, 18], [18, 20]]
    for name, found in runs.items():
        starts = range(0, ROWS, 6)
        parts = [arrays[name][start : start + 6] for start in starts]
        assert found == [
            [start, start + len(part), zlib.crc32(part.tobytes())]
            for start, part in zip(starts, parts, strict=True)
        ]
    assert manifest == {
        "format": 1,
        "rows": ROWS,
        "modalities": ["image", "text"],
        "side": ["labels", "titles"],
        "attributes": [],
        "rows_per_chunk": 6,
    }
    assert open_store(tmp_path / "a.zarr") == store


@pytest.mark.parametrize("rows", [[0], [5, 6], [0, 7, 8, 19], list(range(ROWS)), []])
def test_selected_rows_are_those_asked_for(store, arrays, rows):
    rows = np.array(rows, dtype=np.int64)
    for name, values in arrays.items():
        found = store.read_selected(name, rows)
        assert found.shape == values[rows].shape
        np.testing.assert_array_equal(found, values[rows])


def test_unknown_array_is_refused_with_the_known_ones(store):
    with pytest.raises(InputError, match="no array 'sound'; it has image, text, labels, titles"):
        store.read("sound")


def test_store_without_its_manifest_is_not_opened(tmp_path):
    """What a killed ingest leaves: arrays, but no commit."""
    specs = {g: ((4, 2), np.dtype(np.float64)) for g in ("image", "text")}
    writer = FeatureWriter(tmp_path / "a.zarr", specs, ("image", "text"), 4)
    for g in specs:
        writer.write(g, 0, np.ones((4, 2)))
    with pytest.raises(
        StorageError, match="the command that started the store, or remove the folder and make"
    ):
        open_store(tmp_path / "a.zarr")
    writer.finish({})
    assert open_store(tmp_path / "a.zarr").rows == 4


def test_manifest_before_all_chunks_are_there_does_not_make_a_store(tmp_path):
    specs = {g: ((4, 2), np.dtype(np.float64)) for g in ("image", "text")}
    writer = FeatureWriter(tmp_path / "a.zarr", specs, ("image", "text"), 2)
    writer.write("image", 0, np.ones((4, 2)))
    writer.write("text", 0, np.ones((2, 2)))
    with pytest.raises(StorageError, match="text: 1 chunks are missing"):
        writer.finish({})


@pytest.mark.parametrize("name", ["image", "text", "labels", "titles"])
def test_missing_chunk_is_noticed_at_opening(store, tmp_path, name):
    chunks = sorted(
        file for file in (tmp_path / "a.zarr" / name / "c").rglob("*") if file.is_file()
    )
    assert len(chunks) == 4
    chunks[2].unlink()
    with pytest.raises(StorageError, match=f"{name}: 1 chunks are missing; make a store with"):
        open_store(store.path)


@pytest.mark.parametrize("name", ["image", "text", "labels", "titles"])
def test_flipped_byte_is_noticed_at_reading(store, tmp_path, name):
    chunks = sorted(
        file for file in (tmp_path / "a.zarr" / name / "c").rglob("*") if file.is_file()
    )
    raw = bytearray(chunks[1].read_bytes())
    raw[len(raw) // 2] ^= 0x01
    chunks[1].write_bytes(raw)
    with pytest.raises(StorageError, match=r"chunk with row 6 is damaged \(.*c/1"):
        store.read(name, 6, 12)


@pytest.fixture
def other(arrays, tmp_path):
    """A store of the same shape with other values."""
    pairs = {name: values[::-1] for name, values in arrays.items()}
    return ingest_source(pairs, tmp_path / "other.zarr", rows_per_chunk=6)


@pytest.mark.parametrize("name", ["image", "text", "labels", "titles"])
def test_chunk_of_another_store_is_refused_where_its_rows_are_read(store, other, name):
    exchange_chunk(f"{store.path}/{name}", f"{other.path}/{name}")
    refusal = rf"{name}: rows 6 to 11 do not match .* \(.*{name}/c/1.*\); write the array again"
    for read in (
        lambda: store.read(name),
        lambda: store.read(name, 6, 12),
        lambda: store.read(name, 11, 14),
        lambda: store.read_selected(name, np.array([2, 8])),
        lambda: store.show(name, 7),
        lambda: pickle.loads(pickle.dumps(store)).read(name),
    ):
        with pytest.raises(StorageError, match=refusal):
            read()
    assert len(store.read(name, 12, 99)) == 8
    assert len(store.read_selected(name, np.array([0, 19]))) == 2


def test_whole_side_array_of_an_older_store_is_verified(store, other, arrays, tmp_path):
    """Earlier versions recorded one checksum of each array, and no runs of side arrays."""
    edit_manifest(tmp_path / "a.zarr", runs=None)
    older = open_store(store.path)
    for name, values in arrays.items():
        np.testing.assert_array_equal(older.read(name), values)
    exchange_chunk(f"{store.path}/labels", f"{other.path}/labels")
    with pytest.raises(StorageError, match="labels: rows 0 to 19 do not match their recorded"):
        older.read("labels")


@pytest.mark.parametrize("runs", [5, {"image": 5}, {"image": [[0, 6]]}, {"image": [[0, 6, "x"]]}])
def test_damaged_runs_of_a_manifest_are_refused(store, tmp_path, runs):
    edit_manifest(tmp_path / "a.zarr", runs=runs)
    with pytest.raises(StorageError, match=r"a\.zarr.* damaged"):
        open_store(store.path).read("image")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"format": None}, "has format None"),
        ({"rows": 19}, "expected 19 rows"),
        ({"rows": "many"}, "manifest is damaged"),
        ({"rows": None}, "manifest is damaged"),
        ({"modalities": ["image", "sound"]}, "sound"),
        ({"modalities": ["image", "labels"], "side": []}, "labels has shape"),
        ({"modalities": ["image", "../b"]}, r"names an array '\.\./b'"),
        ({"side": [5]}, "names an array 5"),
        ({"attributes": ["label_names"]}, "manifest is damaged"),
    ],
)
def test_damaged_manifest_is_refused(store, tmp_path, changes, message):
    edit_manifest(tmp_path / "a.zarr", **changes)
    with pytest.raises(StorageError, match=message):
        open_store(store.path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"zarr_format": 3, "node_type": "group"}'])
def test_damaged_group_metadata_is_refused(store, tmp_path, content):
    (tmp_path / "a.zarr" / "zarr.json").write_text(content)
    with pytest.raises(StorageError, match=r"a\.zarr"):
        open_store(store.path)


def test_array_lost_as_a_whole_is_refused(store, tmp_path):
    shutil.rmtree(tmp_path / "a.zarr" / "text")
    with pytest.raises(StorageError, match="text"):
        open_store(store.path)


@pytest.mark.parametrize("kind", ["nothing", "folder", "file"])
def test_places_that_are_no_store_are_refused_with_the_command_that_makes_one(tmp_path, kind):
    place = tmp_path / "a.zarr"
    if kind == "folder":
        place.mkdir()
    if kind == "file":
        place.write_text("x")
    with pytest.raises(StorageError, match=r"python -m srch_dist\.ingest SOURCE STORE"):
        open_store(place)
