"""Ingest: stored values, roles of arrays, the data profile, refusals that leave nothing behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import zarr

from srch_dist.errors import InputError, SrchError, StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage.feature_store import open_store
from tests.helpers.ingest import ROWS, Recording, make_pairs


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("rows_per_chunk", [None, 1, 5, 23, 24])
def test_values_come_back_for_any_chunk_size(ingest, save, rows_per_chunk):
    arrays = make_pairs(
        labels=np.eye(ROWS, 3, dtype=np.uint8),
        split=(np.arange(ROWS) > 15).astype(np.uint8),
        ids=np.arange(ROWS) - 5,
        titles=np.array([f"{row} 👩‍🚀 naïve ﷽" for row in range(ROWS)]),
    )
    store = ingest(arrays, save, rows_per_chunk=rows_per_chunk)
    assert store.rows == ROWS
    assert dict(store.modalities) == {"image": 6, "text": 4}
    assert store.side == ("labels", "split", "ids", "titles")
    for name, expected in arrays.items():
        np.testing.assert_array_equal(store.read(name), expected)
        np.testing.assert_array_equal(store.read(name, 4, 19), expected[4:19])
        assert zarr.open_array(f"{store.path}/{name}").chunks[0] == min(rows_per_chunk or ROWS, 23)


def test_modalities_are_zarr_v3_arrays_at_the_top_with_crc32c(ingest):
    arrays = make_pairs(labels=np.ones(ROWS, np.int64), titles=np.array(["é"] * ROWS))
    store = ingest(arrays, rows_per_chunk=10)
    for name in arrays:
        metadata = json.loads(Path(store.path, name, "zarr.json").read_text(encoding="utf-8"))
        assert (metadata["zarr_format"], metadata["node_type"]) == (3, "array")
        assert "crc32c" in [codec["name"] for codec in metadata["codecs"]]
    group = zarr.open_group(store.path, mode="r")
    np.testing.assert_array_equal(group["image"][:], arrays["image"])
    assert group["image"].dtype == np.float32
    assert group["text"].dtype == np.float64


def test_all_two_dimensional_floats_are_modalities_by_default(ingest):
    arrays = make_pairs(
        audio=np.ones((ROWS, 2), dtype=np.float16),
        labels=np.ones((ROWS, 3), dtype=np.float32),
        counts=np.ones((ROWS, 3), dtype=np.int32),
        score=np.ones(ROWS),
    )
    store = ingest(arrays)
    assert list(store.modalities) == ["image", "text", "audio"]
    assert store.side == ("labels", "counts", "score")


def test_named_modalities_may_be_integers_and_others_are_side_arrays(ingest):
    counts = np.arange(ROWS * 3, dtype=np.int16).reshape(ROWS, 3)
    arrays = make_pairs(counts=counts)
    store = ingest(arrays, modalities=["text", "counts"])
    assert dict(store.modalities) == {"text": 4, "counts": 3}
    assert store.side == ("image",)
    np.testing.assert_array_equal(store.read("counts"), counts)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64, np.uint8, np.bool_])
def test_every_value_of_an_integer_modality_is_data(ingest, dtype):
    limits = (False, True) if dtype is np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.full((ROWS, 3), limits[0], dtype=dtype)
    values[3:] = limits[1]
    store = ingest(make_pairs(image=values), modalities=["image", "text"], rows_per_chunk=3)
    np.testing.assert_array_equal(store.read("image"), values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("split", np.arange(ROWS) > 10),
        ("labels", np.zeros((ROWS, 3), dtype=np.uint8)),
        ("labels", np.array([""] * ROWS)),
        ("notes", np.array([""] * ROWS)),
        ("year", np.full(ROWS, np.nan)),
        ("ids", np.full(ROWS, np.iinfo(np.int64).min)),
    ],
)
def test_side_arrays_may_hold_whole_chunks_of_empty_values(ingest, name, values):
    store = ingest(make_pairs(**{name: values}), rows_per_chunk=5)
    np.testing.assert_array_equal(open_store(store.path).read(name), values)


def test_arrays_of_other_lengths_become_attributes(ingest):
    arrays = make_pairs(
        label_names=np.array(["a", "🐟"]),
        version=np.array(3),
        scale=np.array([0.5, 2.0]),
        flags=np.array([True, False]),
    )
    store = ingest(arrays)
    expected = {
        "label_names": ["a", "🐟"],
        "version": 3,
        "scale": [0.5, 2.0],
        "flags": [True, False],
    }
    assert store.attributes == expected
    assert open_store(store.path).attributes == expected
    assert zarr.open_group(store.path, mode="r").attrs["label_names"] == ["a", "🐟"]


def test_attribute_that_would_take_the_place_of_the_manifest_is_refused(ingest, tmp_path):
    with pytest.raises(InputError, match="srch_dist"):
        ingest(make_pairs(srch_dist=np.array([1, 2])))
    assert not (tmp_path / "store.zarr").exists()


def test_default_chunk_is_about_32_mib_of_the_widest_modality(ingest):
    wide = np.zeros((3000, 4096), dtype=np.float32)
    wide[:, 0] = np.arange(3000)
    store = ingest(make_pairs(rows=3000, image=wide), np.savez_compressed)
    assert store.rows_per_chunk == (32 << 20) // (4096 * 4)
    chunks = zarr.open_array(f"{store.path}/image").nchunks
    assert chunks == math.ceil(3000 / store.rows_per_chunk) == 2


@pytest.mark.parametrize("name", ["labels", "split", "ids", "titles"])
@pytest.mark.parametrize("rows", [ROWS - 1, ROWS + 1, 2])
def test_row_arrays_of_the_wrong_length_are_refused(ingest, tmp_path, name, rows):
    with pytest.raises(InputError, match=rf"{name} has shape \({rows},\), expected 23 rows"):
        ingest(make_pairs(**{name: np.zeros(rows, dtype=np.int64)}))
    assert not (tmp_path / "store.zarr").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows_per_chunk", [None, 4])
def test_invalid_values_are_refused_with_array_and_row_numbers(
    ingest, tmp_path, value, rows_per_chunk
):
    arrays = make_pairs()
    arrays["text"][[13, 14], [0, 3]] = value
    with pytest.raises(
        InputError, match=r"text holds .* 1e150 or more in rows 13, 14. Replace"
    ) as refusal:
        ingest(arrays, rows_per_chunk=rows_per_chunk)
    assert "source.npz" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source.npz"]


def test_many_invalid_rows_are_cut_short_in_the_message(ingest):
    with pytest.raises(InputError, match=r"in rows 0, 1, 2, 3, 4, …\."):
        ingest(make_pairs(image=np.full((ROWS, 2), np.nan)))


@pytest.mark.parametrize("rows_per_chunk", [None, 4])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(np.eye(ROWS, 4), 1, -1), r"row 0: -1.*Convert -1 to 0: labels"),
        (np.full((ROWS, 3), 0.3), "row 0.*Apply a threshold"),
        (np.full((ROWS, 3), 7), "row 0.*Save one column per class"),
        (np.r_[np.zeros(20), -1, 2, 0.5], "row 20: -1.0.*at least 0"),
        (
            np.r_[np.zeros(20), np.nan, 2, 2],
            "labels holds .* 1e150 or more in row 20",
        ),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(
    ingest, tmp_path, labels, message, rows_per_chunk
):
    with pytest.raises(InputError, match=message):
        ingest(make_pairs(labels=labels), rows_per_chunk=rows_per_chunk)
    assert not (tmp_path / "store.zarr").exists()
    with pytest.raises(InputError, match=message):
        ingest_source(make_pairs(labels=labels), tmp_path / "store.zarr")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"text": np.ones((22, 4))}, "unequal numbers of rows: image 23, text 22"),
        ({"text": None}, "at least two modalities are needed, found image"),
        ({"text": None, "image": None}, "at least two modalities are needed, found none"),
        ({"image": np.ones((ROWS, 2, 2))}, "at least two modalities are needed, found text"),
        ({"image": np.ones((ROWS, 0))}, "image has shape"),
        ({"image": np.ones((0, 3)), "text": np.ones((0, 4))}, "(no|0) rows"),
        ({"image": np.ones((ROWS, 4), np.longdouble)}, "image is float128"),
        ({"ids": np.array([b"x"] * ROWS)}, "ids is an array of bytes. Save it as text"),
        ({"split": np.full(ROWS, 0.5)}, "split row 0 is 0.5, expected an integer"),
        ({"split": np.full(ROWS, np.nan)}, "split row 0 is nan, expected an integer"),
        ({"split": np.array(["train"] * ROWS)}, "split .* expected one integer per row"),
        ({"split": np.ones((ROWS, 2), int)}, "split .* expected one integer per row"),
        ({"other": np.zeros(100_001)}, "other has shape .* Remove other"),
        ({"a b": np.ones(ROWS)}, "'a b' is no valid name of an array"),
        ({"zarr.json": np.ones(ROWS)}, r"zarr\.json.* is no valid name of an array"),
        ({"labels": np.ones((ROWS, 2, 2))}, "labels"),
        ({"labels": np.array([["a", "b"]] * ROWS)}, "labels"),
        ({"titles": np.array(["\ud800"] * ROWS)}, "titles"),
    ],
)
def test_arrays_that_are_no_paired_features_are_refused(ingest, tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        ingest(make_pairs(**arrays))
    assert [path.name for path in tmp_path.iterdir()] == ["source.npz"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["image", "sound"], "there is no array 'sound'; the source has: image"),
        (["image"], "at least two modalities are needed, found image"),
        (["image", "image"], "at least two modalities are needed, found image"),
        ([], "at least two modalities are needed, found none"),
        (["image", "titles"], "titles is .U1; a modality must be an array of real numbers"),
        (["image", "score"], "score has shape .* a modality must be"),
    ],
)
def test_named_modalities_that_cannot_be_are_refused(ingest, tmp_path, names, message):
    arrays = make_pairs(titles=np.array(["x"] * ROWS), score=np.ones(ROWS))
    with pytest.raises(InputError, match=message):
        ingest(arrays, modalities=names)
    assert not (tmp_path / "store.zarr").exists()


@pytest.mark.parametrize("rows_per_chunk", [0, -1])
def test_senseless_chunk_sizes_are_refused(ingest, tmp_path, rows_per_chunk):
    with pytest.raises(SrchError, match="rows_per_chunk"):
        ingest(make_pairs(), rows_per_chunk=rows_per_chunk)
    assert not (tmp_path / "store.zarr").exists()


@pytest.mark.parametrize("kind", ["store", "folder", "file"])
def test_what_is_there_already_is_refused_and_untouched(ingest, tmp_path, kind):
    target = tmp_path / "store.zarr"
    if kind == "store":
        ingest(make_pairs())
    elif kind == "folder":
        target.mkdir()
        (target / "mine").write_text("x")
    else:
        target.write_text("x")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in [target, *target.rglob("*")])
    with pytest.raises(StorageError, match=r"store\.zarr already exists; remove it or choose"):
        ingest(make_pairs(image=np.zeros((ROWS, 2))))
    after = sorted((str(path), path.stat().st_mtime_ns) for path in [target, *target.rglob("*")])
    assert after == before


def test_refusal_leaves_no_parent_folders(tmp_path):
    np.savez(tmp_path / "source.npz", **make_pairs(image=np.full((ROWS, 2), np.nan)))
    with pytest.raises(InputError):
        ingest_source(tmp_path / "source.npz", tmp_path / "new" / "deep" / "store.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["source.npz"]


@pytest.mark.parametrize("rows_per_chunk", [3, 23])
def test_summary_counts_zero_rows_duplicates_and_lengths(ingest, rows_per_chunk):
    arrays = make_pairs()
    arrays["image"][[3, 9, 20]] = 0
    arrays["image"][20, 0] = -0.0
    arrays["text"][[7, 22]] = arrays["text"][0]
    progress = Recording(0)
    ingest(arrays, rows_per_chunk=rows_per_chunk, progress=progress)
    lengths = np.linalg.norm(arrays["text"], axis=1)
    rows = {line.split()[0]: line.split() for line in progress.notes if "float" in line}
    assert rows["image"][1:7] == ["image", "6", "float32", "0", "3", "2"]
    assert rows["text"][1:7] == ["text", "4", "float64", "0", "0", "2"]
    assert rows["text"][7:] == [f"{lengths.min():.4g}", "–", f"{lengths.max():.4g}"]


@pytest.mark.parametrize("location", ["memory://a.zarr", "http://host/a.zarr"])
def test_remote_stores_are_refused(tmp_path, location):
    np.savez(tmp_path / "source.npz", **make_pairs())
    with pytest.raises(StorageError, match="only local paths"):
        ingest_source(tmp_path / "source.npz", location)


def test_file_urls_are_local_paths(tmp_path):
    np.savez(tmp_path / "source.npz", **make_pairs())
    ingest_source(tmp_path / "source.npz", f"file://{tmp_path}/store.zarr")
    assert open_store(tmp_path / "store.zarr").rows == ROWS
