"""Shards: which files are one array or table, in which order, and which are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from srch_dist.errors import InputError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.formats import open_source
from srch_dist.ingest.sources.shards import find_families
from tests.helpers.source_files import lists, make_pairs, table, write_zarr

UUID = "5d0c7a52-31f4-4c55-9a0b-6f3b2a1c9e77"


def families(*names: str) -> dict[str, list[str]]:
    found = find_families([Path(f"{name}.npy") for name in names])
    return {family.name: [file.stem for file in family.files] for family in found}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("img_emb", ["img_emb_0", "img_emb_1", "img_emb_2"]),
        ("img_emb", ["img_emb_9", "img_emb_10", "img_emb_11"]),
        ("img_emb", ["img_emb_0", "img_emb_2"]),
        ("img_emb", ["img_emb_0003", "img_emb_0007"]),
        ("img_emb", ["img_emb_1", "img_emb_2"]),
        ("img_emb", ["img_emb_0", "img_emb_1000"]),
        ("img_emb", ["img_emb_0_100", "img_emb_100_200", "img_emb_200_230"]),
        ("img_emb", ["img_0_emb", "img_1_emb"]),
        ("img_emb", ["00000_img_emb", "00001_img_emb"]),
        ("part", [f"part-{i:05d}-{UUID}-c000" for i in range(3)]),
        ("part", [f"part-{i:05d}-{UUID}.c000.snappy" for i in range(3)]),
        (
            "train",
            ["train-00000-of-00002-4b1f0a77c2d9e3ab", "train-00001-of-00002-90c7de15fb2a6c4d"],
        ),
        ("train", ["train-00000-of-00002", "train-00001-of-00002"]),
        ("part", ["000000000000", "000000000001"]),
        ("part", ["0", "1"]),
        ("rank_part", ["rank0_part0", "rank0_part1", "rank1_part0", "rank1_part1"]),
    ],
)
def test_files_that_differ_in_the_number_of_a_shard_are_one_array(name, files):
    assert families(*reversed(files)) == {name: files}


@pytest.mark.parametrize(
    "files",
    [
        ["image_resnet101", "image_resnet50"],
        ["clip-vit-b-16", "clip-vit-b-32"],
        ["image_vgg16", "image_vgg19"],
        ["emb256", "emb512", "emb768"],
        ["image-4b1f0a77c2d9e3ab", "image-90c7de15fb2a6c4d"],
    ],
)
def test_numbers_of_a_name_make_no_shards(files):
    assert families(*files) == {file: [file] for file in files}


def test_shards_of_two_models_are_two_arrays():
    names = [f"resnet{model}_{shard}" for model in (50, 101) for shard in (0, 1)]
    assert families(*names) == {
        "resnet101": ["resnet101_0", "resnet101_1"],
        "resnet50": ["resnet50_0", "resnet50_1"],
    }


def write_tables(folder: Path, names, write=pq.write_table, sizes=(9, 9, 5)):
    folder.mkdir(exist_ok=True)
    pairs, start = make_pairs(), 0
    for name, size in zip(names, sizes, strict=True):
        write(table(pairs).slice(start, size).combine_chunks(), folder / name)
        start += size
    return pairs


@pytest.mark.parametrize(
    "names",
    [
        [f"part-{i:05d}-{UUID}-c000.snappy.parquet" for i in range(3)],
        ["train-00000-of-00003-4b1f0a77c2d9e3ab.parquet", *(
            f"train-0000{i}-of-00003-90c7de15fb2a6c4d.parquet" for i in (1, 2))],
        ["a.parquet", "b.parquet", "c.parquet"],
        ["2024-05-09.parquet", "2024-05-10.parquet", "2024-06-01.parquet"],
        ["run9.parquet", "run50.parquet", "run101.parquet"],
        ["part-0.feather", "part-1.feather", "part-2.feather"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", ["folder", "files"])
def test_tables_of_the_same_columns_are_one_table(tmp_path, names, given):
    write = pyarrow.feather.write_feather if names[0].endswith("feather") else pq.write_table
    pairs = write_tables(tmp_path / "a", names, write)
    source = tmp_path / "a" if given == "folder" else [tmp_path / "a" / name for name in names]
    store = ingest_source(source, tmp_path / "a.zarr")
    assert dict(store.modalities) == {"image": 6, "text": 4}
    for name, expected in pairs.items():
        assert store.read(name).tolist() == expected.tolist()


def test_splits_are_named_and_not_paired(tmp_path):
    names = ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"]
    write_tables(tmp_path / "a", names, sizes=(10, 10))
    with pytest.raises(InputError, match=r"several splits: test \(.*train \(.*column named split"):
        open_source(tmp_path / "a")
    for name in names:
        split = name.split("-")[0]
        (tmp_path / "b" / split).mkdir(parents=True)
        (tmp_path / "a" / name).rename(tmp_path / "b" / split / "part-0.parquet")
    with pytest.raises(InputError, match=r"test, train hold arrays .* \(image, text\)"):
        open_source(tmp_path / "b")


def test_archives_of_two_splits_are_not_paired(tmp_path):
    (tmp_path / "a").mkdir()
    for split in ("train", "test"):
        np.savez(tmp_path / "a" / f"{split}.npz", **make_pairs())
    with pytest.raises(InputError, match=r"test, train hold arrays .* \(image, text\)"):
        open_source(tmp_path / "a")


def test_unequal_rows_name_the_files_that_were_joined(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("image_1", "image_2", "text"):
        np.save(tmp_path / "a" / f"{name}.npy", np.ones((5, 3), np.float32))
    with pytest.raises(InputError, match=r"image 10, text 5; image joins image_1\.npy, image_2\.n"):
        ingest_source(tmp_path / "a", tmp_path / "a.zarr")


@pytest.mark.parametrize("empty", [np.empty(0), np.empty(0, np.float32), np.empty((0, 6))])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_empty_shards_of_idle_workers_are_left_out(tmp_path, empty, place):
    pairs = make_pairs()
    for name in ("image", "text"):
        (tmp_path / "a" / name).mkdir(parents=True)
        shards = [pairs[name][:9], pairs[name][9:]]
        shards.insert(place, empty)
        for number, shard in enumerate(shards):
            np.save(tmp_path / "a" / name / f"{name}_{number}.npy", shard)
    source = open_source(tmp_path / "a")
    if empty.ndim == 1:
        assert source.skipped[f"image.image_{place}.npy"] == "shard without rows, of shape (0,)"
    for name in ("image", "text"):
        found = np.concatenate(list(source.blocks(name, 4)))
        np.testing.assert_array_equal(found, pairs[name], strict=True)
        np.testing.assert_array_equal(next(source.blocks(name, 40, 8)), pairs[name][8:])


def test_text_and_float_shards_of_unlike_width_are_joined(tmp_path):
    (tmp_path / "a").mkdir()
    for number, words in enumerate((["a", "b"], ["long word", "c"])):
        np.save(tmp_path / "a" / f"titles_{number}.npy", np.array(words))
        np.save(tmp_path / "a" / f"x_{number}.npy", np.ones((2, 3), ["f2", "f4"][number]))
    source = open_source(tmp_path / "a")
    assert np.concatenate(list(source.blocks("titles", 3))).tolist() == ["a", "b", "long word", "c"]
    assert source.specs()["x"] == ((4, 3), np.float32)


def write_two(folder: Path, first: dict, second: dict) -> None:
    folder.mkdir()
    pairs = make_pairs()
    for part, more in enumerate((first, second)):
        rows = slice(10 * part, 10 * part + 10)
        columns = {name: lists(pairs[name][rows], fixed=bool(part)) for name in ("image", "text")}
        pq.write_table(pa.table({**columns, **more}), folder / f"part-{part}.parquet")


WORDS = [f"w{row}" for row in range(10)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pa.nulls(10), pa.array(WORDS), [""] * 10 + WORDS),
        (pa.array(WORDS, pa.large_string()), pa.array(WORDS), WORDS * 2),
        (pa.array(WORDS).dictionary_encode(), pa.array(WORDS), WORDS * 2),
        (pa.array(range(10)), pa.array(np.arange(10) / 2), [*range(10), *(np.arange(10) / 2)]),
        (pa.array(range(10), pa.int8()), pa.array(range(10)), [*range(10)] * 2),
        (pa.array([[1, 2]] * 10, pa.large_list(pa.int64())), pa.array([[3, 4]] * 10),
         [[1, 2]] * 10 + [[3, 4]] * 10),
    ],
    ids=["null", "large string", "dictionary", "int and float", "int8", "large list"],
)  # fmt: skip
def test_columns_of_shards_are_promoted(tmp_path, first, second, expected):
    write_two(tmp_path / "a", {"other": first}, {"other": second})
    source = open_source(tmp_path / "a")
    assert np.concatenate(list(source.blocks("other", 7))).tolist() == expected
    store = ingest_source(tmp_path / "a", tmp_path / "a.zarr")
    assert store.read("other").tolist() == expected


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (pa.nulls(10), pa.array(range(10)), "lacks 10 of 20 values"),
        (pa.array(WORDS), pa.array(range(10)), "int64 in part-1.parquet, but string in part-0"),
        (pa.array([True] * 10), pa.array(range(10)), "int64 in part-1.parquet, but bool in part-0"),
        (pa.array(range(10), pa.uint64()), pa.array(range(10)), "but uint64 in part-0"),
        (pa.array([[1, 2]] * 10), pa.array([[1, 2, 3]] * 10), "row 10: 3 values, expected 2"),
        (None, pa.array(range(10)), "is missing in part-0.parquet"),
        (pa.nulls(10), pa.nulls(10), "has no values"),
    ],
    ids=["nulls", "text", "bool", "uint64", "widths", "missing", "no values"],
)
def test_columns_that_do_not_fit_are_unreadable_alone(tmp_path, first, second, reason):
    columns = [{} if values is None else {"other": values} for values in (first, second)]
    write_two(tmp_path / "a", *columns)
    source = open_source(tmp_path / "a")
    assert list(source.specs()) == ["image", "text"]
    assert reason in source.unreadable["other"]
    store = ingest_source(tmp_path / "a", tmp_path / "a.zarr", ["image", "text"])
    assert store.rows == 20
    with pytest.raises(InputError, match="other "):
        ingest_source(tmp_path / "a", tmp_path / "b.zarr", ["image", "text"], side=["other"])


def test_whole_numbers_that_a_double_cannot_hold_are_refused(tmp_path):
    large = pa.array([2**53 + 1] * 10)
    write_two(tmp_path / "a", {"other": large}, {"other": pa.array(np.ones(10))})
    source = open_source(tmp_path / "a")
    with pytest.raises(InputError, match="whole numbers up to 9007199254740993"):
        list(source.blocks("other", 30))


@pytest.mark.parametrize("kind", ["zarr", "folder"])
def test_folders_that_are_shards_are_refused(tmp_path, kind):
    for name in ("image_0", "image_1"):
        if kind == "zarr":
            write_zarr(tmp_path / "a" / f"{name}.zarr", {"x": np.ones((5, 3), np.float32)})
        else:
            (tmp_path / "a" / name).mkdir(parents=True)
            np.save(tmp_path / "a" / name / "x.npy", np.ones((5, 3), np.float32))
    with pytest.raises(InputError, match=r"image_0.*, image_1.* look like shards of one array"):
        open_source(tmp_path / "a")


def test_missing_shards_are_noted_where_the_names_count_them(tmp_path):
    names = [f"train-0000{number}-of-00005.parquet" for number in (0, 1, 3)]
    write_tables(tmp_path / "a", names)
    assert open_source(tmp_path / "a").skipped == {"train (shards)": "2 of 5 files are missing"}


def test_parts_of_a_sparse_matrix_in_files_of_their_own(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "image.npy", make_pairs()["image"])
    for part in ("data", "indices", "indptr"):
        np.save(tmp_path / "a" / f"text_{part}.npy", np.arange(24))
    source = open_source(tmp_path / "a")
    assert list(source.specs()) == ["image"]
    assert "is a sparse matrix" in source.unreadable["text"]


def test_files_keep_the_order_in_which_they_are_given(tmp_path):
    (tmp_path / "z").mkdir()
    paths = [tmp_path / "text.npy", tmp_path / "z" / "b_0.npy", tmp_path / "z" / "b_1.npy",
             tmp_path / "audio.npy", tmp_path / "image.parquet"]  # fmt: skip
    for path in paths:
        if path.suffix == ".npy":
            np.save(path, make_pairs()["image"])
        else:
            pq.write_table(pa.table({"image": lists(make_pairs()["image"])}), path)
    assert list(open_source(paths).specs()) == ["text", "b", "audio", "image"]
    for path in paths[1:3]:
        path.unlink()
    paths[1].parent.rmdir()
    assert list(open_source(tmp_path).specs()) == ["audio", "image", "text"]
