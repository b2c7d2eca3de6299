"""Every format, written by its own library, becomes the same store; damage is a clear refusal."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import zlib

import h5py
import hdf5storage
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import scipy.io
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.errors import ExtraError, InputError, SrchError
from srch_dist.ingest import ingest_source, limits
from srch_dist.ingest.source import open_source

ROWS = 23
TITLES = [f"{row} – 🦊 ß" for row in range(ROWS)]


def make_pairs(rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "image": rng.normal(size=(rows, 6)).astype(np.float32),
        "text": rng.normal(size=(rows, 4)).astype(np.float16),
        "split": np.arange(rows, dtype=np.uint8) % 2,
        "titles": np.array(TITLES[:rows]),
    }


def lists(values: np.ndarray, fixed: bool = True) -> pa.Array:
    flat = pa.array(values.ravel())
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


def table(pairs: dict[str, np.ndarray], fixed: bool = True) -> pa.Table:
    columns = {
        name: lists(values, fixed) if values.ndim == 2 else pa.array(values.tolist())
        for name, values in pairs.items()
    }
    columns["split"] = pa.array(pairs["split"])
    return pa.table(columns)


def write_npy(path, pairs):
    path.mkdir()
    for name, values in pairs.items():
        np.save(path / f"{name}.npy", values)


def write_columns(path, pairs):
    """As `write_npy`, column-major and big-endian."""
    path.mkdir()
    for name, values in pairs.items():
        swapped = values.astype(values.dtype.newbyteorder(">"))
        np.save(path / f"{name}.npy", np.asfortranarray(swapped))


def write_clip_retrieval(path, pairs):
    for shard, rows in enumerate([range(10), range(10, 11), range(11, ROWS)]):
        for folder, name in (("img_emb", "image"), ("text_emb", "text")):
            (path / folder).mkdir(parents=True, exist_ok=True)
            np.save(path / folder / f"{folder}_{shard}.npy", pairs[name][rows])
        (path / "metadata").mkdir(exist_ok=True)
        side = {"caption": pairs["titles"][rows].tolist(), "split": pa.array(pairs["split"][rows])}
        pq.write_table(pa.table(side), path / "metadata" / f"metadata_{shard}.parquet")


def write_parquet(path, pairs):
    pq.write_table(table(pairs), path, row_group_size=7)


def write_parquet_shards(path, pairs):
    path.mkdir()
    whole = table(pairs, fixed=False)
    for part, start in enumerate((0, 9, 18)):
        name = f"train-{part:05d}-of-00003.parquet"
        pq.write_table(whole.slice(start, 9), path / name)


def write_feather(path, pairs):
    pyarrow.feather.write_feather(table(pairs), path, chunksize=5, compression="lz4")


def write_arrow_stream(path, pairs):
    whole = table(pairs)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, whole.schema) as stream:
        stream.write_table(whole, max_chunksize=6)


def write_hdf5(path, pairs):
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=pairs["image"], chunks=(4, 3), compression="gzip")
        file["text"] = pairs["text"]
        file["split"] = pairs["split"]
        file["titles"] = pairs["titles"].tolist()


def write_mat_v5(path, pairs):
    scipy.io.savemat(path, for_matlab(pairs), do_compression=True, oned_as="column")


def write_mat_v73(path, pairs):
    hdf5storage.savemat(str(path), for_matlab(pairs), format="7.3", oned_as="column")


def for_matlab(pairs):
    cells = np.empty((ROWS, 1), dtype=object)
    cells[:, 0] = pairs["titles"].tolist()
    return {**pairs, "text": pairs["text"].astype(np.float64), "titles": cells}


def write_zarr(path, pairs, version=3):
    group = zarr.create_group(str(path), zarr_format=version)
    for name, values in pairs.items():
        text = values.dtype.kind == "U"
        kind = np.dtypes.StringDType() if text else values.dtype
        array = group.create_array(
            name, shape=values.shape, chunks=(5, *values.shape[1:]), dtype=kind
        )
        array.with_config({"write_empty_chunks": True})[:] = values


def write_zarr_v2(path, pairs):
    write_zarr(path, pairs, 2)


WRITERS = {
    "npy": write_npy,
    "columns": write_columns,
    "clip": write_clip_retrieval,
    "a.parquet": write_parquet,
    "shards": write_parquet_shards,
    "a.feather": write_feather,
    "stream.arrow": write_arrow_stream,
    "a.h5": write_hdf5,
    "v5.mat": write_mat_v5,
    "v73.mat": write_mat_v73,
    "a.zarr": write_zarr,
    "v2.zarr": write_zarr_v2,
}


@pytest.mark.parametrize("rows_per_chunk", [None, 4])
@pytest.mark.parametrize("name", WRITERS)
def test_values_of_every_format_come_back(tmp_path, name, rows_per_chunk):
    pairs = make_pairs()
    WRITERS[name](tmp_path / name, pairs)
    store = ingest_source(tmp_path / name, tmp_path / "store.zarr", rows_per_chunk=rows_per_chunk)
    assert dict(store.modalities) == {"image": 6, "text": 4}
    assert set(store.side) == {"split", "titles"}
    for array, expected in pairs.items():
        assert store.read(array).tolist() == expected.tolist()


@pytest.mark.parametrize("name", WRITERS)
def test_reading_may_begin_at_any_row(tmp_path, name):
    WRITERS[name](tmp_path / name, make_pairs())
    source = open_source(tmp_path / name)
    for array in source.specs():
        whole = np.concatenate(list(source.blocks(array, ROWS)))
        for start in (1, 9, 10, 22):
            part = np.concatenate(list(source.blocks(array, 5, start)))
            assert part.tolist() == whole[start:].tolist()


def test_several_files_are_one_source(tmp_path):
    pairs = make_pairs()
    np.save(tmp_path / "image.npy", pairs["image"])
    pq.write_table(table(pairs).select(["text", "titles"]), tmp_path / "more.parquet")
    store = ingest_source([tmp_path / "image.npy", tmp_path / "more.parquet"], tmp_path / "a.zarr")
    np.testing.assert_array_equal(store.read("image"), pairs["image"])
    np.testing.assert_array_equal(store.read("text"), pairs["text"])


def test_arrays_may_be_named_by_option(tmp_path):
    pairs = make_pairs()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/visual"], file["deep/audio"], file["other"] = (
            pairs["image"],
            pairs["text"],
            [1, 2],
        )
        file["code"] = np.arange(ROWS)
    store = ingest_source(
        tmp_path / "a.h5",
        tmp_path / "a.zarr",
        ["picture=deep.visual", "sound=deep.audio"],
        side=["ids=code"],
    )
    assert dict(store.modalities) == {"picture": 6, "sound": 4}
    assert store.side == ("ids",)
    np.testing.assert_array_equal(store.read("sound"), pairs["text"])


def test_what_cannot_be_an_array_is_left_out_and_said(tmp_path):
    whole = table(make_pairs())
    whole = whole.append_column("exif", pa.array([{"a": 1}] * ROWS))
    whole = whole.append_column("width", pa.array([None, *range(1, ROWS)]))
    whole = whole.append_column("caption", pa.array([None, *TITLES[1:]]))
    pq.write_table(whole, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    assert set(source.left_out) == {"exif", "width"}
    assert "1 of 23 values are missing" in source.left_out["width"]
    store = ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")
    assert store.read("caption")[0] == ""


def write_with_ids(path, left, right):
    rng = np.random.default_rng(0)
    path.mkdir()
    for name, ids in (("image", left), ("text", right)):
        values = lists(rng.normal(size=(len(ids), 4)).astype(np.float32))
        pq.write_table(pa.table({"id": ids, "embedding": values}), path / f"{name}.parquet")


def test_equal_ids_pair_two_tables(tmp_path):
    write_with_ids(tmp_path / "a", ["x", "y", "z"], ["x", "y", "z"])
    store = ingest_source(tmp_path / "a", tmp_path / "a.zarr")
    assert dict(store.modalities) == {"image": 4, "text": 4}
    assert store.read("image_id").tolist() == ["x", "y", "z"]


def test_ids_that_differ_are_listed_by_row(tmp_path):
    write_with_ids(tmp_path / "a", ["x", "y", "z"], ["x", "z", "y"])
    with pytest.raises(
        InputError, match=r"differ in 2 of 3 rows \(row 1: y and z; row 2: z and y\)"
    ):
        ingest_source(tmp_path / "a", tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_ids_of_unequal_tables_are_listed(tmp_path):
    write_with_ids(tmp_path / "a", ["x", "y", "z"], ["y", "x"])
    with pytest.raises(InputError, match=r"image 3, text 2; 1 ids are in image_embedding alone: z"):
        ingest_source(tmp_path / "a", tmp_path / "a.zarr")


def test_shards_that_do_not_pair_are_listed(tmp_path):
    write_clip_retrieval(tmp_path / "a", make_pairs())
    np.save(tmp_path / "a" / "text_emb" / "text_emb_1.npy", np.ones((2, 4), np.float16))
    (tmp_path / "a" / "img_emb" / "img_emb_2.npy").unlink()
    with pytest.raises(InputError) as refusal:
        ingest_source(tmp_path / "a", tmp_path / "a.zarr")
    assert "shard 1: img_emb 1, metadata 1, text_emb 2" in str(refusal.value)
    assert "shard 2: no img_emb" in str(refusal.value)


def test_list_of_another_length_is_refused_by_row(tmp_path):
    rows = [[1.0, 2.0]] * 9 + [[1.0]]
    pq.write_table(pa.table({"image": rows, "text": [[1.0]] * 10}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="image has 1 values in row 9, 2 in the first"):
        ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a.parquet", "a.h5"])
def test_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, name):
    WRITERS[name](tmp_path / name, make_pairs())
    for module in ("h5py", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraError, match=r"pip install 'srch-dist\[formats\]'"):
        open_source(tmp_path / name)


def test_extras_hold_what_the_readers_import():
    text = importlib.metadata.requires("srch-dist")
    for package in ("h5py", "pyarrow"):
        assert any(line.startswith(package) and 'extra == "formats"' in line for line in text)


class TestHostile:
    def test_object_arrays_are_refused_without_being_unpickled(self, tmp_path):
        marker = tmp_path / "unpickled"

        class Trap:
            def __reduce__(self):
                return (type(marker).touch, (marker,))

        np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match="object array"):
            open_source(tmp_path / "a.npy")
        assert not marker.exists()

    def test_pickles_in_zarr_v2_are_left_out_unread(self, tmp_path):
        folder = tmp_path / "a.zarr" / "trap"
        folder.mkdir(parents=True)
        (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zarray").write_text(
            '{"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C",'
            ' "fill_value": null, "compressor": null, "filters": [{"id": "pickle"}]}'
        )
        (folder / "0").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        source = open_source(tmp_path / "a.zarr")
        assert not source.specs()
        assert "pickle" in source.left_out["trap"]

    def test_shape_that_the_file_does_not_hold_is_refused(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("image", shape=(10**15, 8), chunks=(1000, 8), dtype="f4")
        with pytest.raises(InputError, match="was never written"):
            open_source(tmp_path / "a.h5")
        zarr.create_array(str(tmp_path / "a.zarr"), shape=(10**12, 8), chunks=(1000, 8), dtype="f4")
        with pytest.raises(InputError, match="were never written"):
            open_source(tmp_path / "a.zarr")

    def test_huge_chunks_are_refused(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            shape = (1 << 20, 512)
            data = file.create_dataset(
                "image", shape=shape, chunks=shape, dtype="f4", compression="gzip"
            )
            data.id.write_direct_chunk((0, 0), zlib.compress(b""))
        with pytest.raises(InputError, match="smaller chunks"):
            open_source(tmp_path / "a.h5")

    def test_files_outside_are_not_read(self, tmp_path):
        np.ones((5, 2), np.float32).tofile(tmp_path / "secret")
        write_hdf5(tmp_path / "other.h5", make_pairs())
        with h5py.File(tmp_path / "a.h5", "w") as file:
            secret = [(str(tmp_path / "secret"), 0, 40)]
            file.create_dataset("raw", shape=(5, 2), dtype="f4", external=secret)
            file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "image")
            layout = h5py.VirtualLayout(shape=(ROWS, 6), dtype="f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "image", shape=(ROWS, 6))
            file.create_virtual_dataset("virtual", layout)
        source = open_source(tmp_path / "a.h5")
        assert not source.specs()
        assert set(source.left_out) == {"raw", "virtual"}

    @pytest.mark.parametrize("name", ["a.npz", "a.h5", "v5.mat", "a.zarr", "a.parquet"])
    def test_what_grows_beyond_measure_is_refused(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr(limits, "BOMB_BYTES", 1 << 20)
        monkeypatch.setattr(limits, "WHOLE_BYTES", 1 << 20)
        zeros = np.zeros((1 << 10, 1 << 9), np.float32)
        if name == "a.npz":
            np.savez_compressed(tmp_path / name, image=zeros)
        elif name == "a.h5":
            with h5py.File(tmp_path / name, "w") as file:
                file.create_dataset("image", data=zeros, chunks=(256, 512), compression="gzip")
        elif name == "a.parquet":
            pq.write_table(pa.table({"image": lists(zeros)}), tmp_path / name)
        elif name == "v5.mat":
            scipy.io.savemat(tmp_path / name, {"image": zeros}, do_compression=True)
        else:
            array = zarr.create_array(
                str(tmp_path / name),
                shape=zeros.shape,
                chunks=(256, 512),
                dtype="f4",
                config={"write_empty_chunks": True},
            )
            array[:] = zeros
        with pytest.raises(InputError, match=r"would grow|decompresses to more"):
            open_source(tmp_path / name)

    @pytest.mark.parametrize("kind", [0, 8, 14, 15, 20, 47367])
    def test_mat_with_values_of_no_kind_is_refused(self, tmp_path, kind):
        """SciPy would end the process."""
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, {"image": np.ones((5, 3), np.float32)})
        content = path.read_bytes()
        tag = (7).to_bytes(4, "little") + (60).to_bytes(4, "little")
        assert content.count(tag) == 1
        path.write_bytes(content.replace(tag, kind.to_bytes(4, "little") + tag[4:]))
        with pytest.raises(InputError, match=f"an element within a variable is of kind {kind}$"):
            open_source(path)

    @pytest.mark.parametrize("place", [4, 8, 16], ids=["rows", "columns", "name"])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_mat_of_version_4_that_claims_more_than_it_has_is_refused(self, tmp_path, place, order):
        head = np.array([0 if order == "<" else 1000, 3, 2, 0, 6], f"{order}i4")
        data = np.arange(6, dtype=f"{order}f8").tobytes()
        (tmp_path / "a.mat").write_bytes(head.tobytes() + b"image\0" + data)
        (block,) = open_source(tmp_path / "a.mat").blocks("image", 9)
        np.testing.assert_array_equal(block, [[0, 3], [1, 4], [2, 5]])
        head[place // 4] = 1 << 30
        (tmp_path / "a.mat").write_bytes(head.tobytes() + b"image\0" + data)
        with pytest.raises(InputError, match="54 bytes are left"):
            open_source(tmp_path / "a.mat")

    def test_wide_rows_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(limits, "ROW_BYTES", 20)
        write_parquet(tmp_path / "a.parquet", make_pairs())
        with pytest.raises(InputError, match=r"a row of image \(23, 6\) takes 24 bytes"):
            ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")

    def test_store_that_the_disk_cannot_hold_is_refused(self, tmp_path, monkeypatch):
        free = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
        write_parquet(tmp_path / "a.parquet", make_pairs())
        with pytest.raises(InputError, match="1000 free"):
            ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")
        assert not (tmp_path / "a.zarr").exists()

    @pytest.mark.parametrize("size", [0, 4, 100, -8])
    def test_npy_of_another_length_than_its_header_says_is_refused(self, tmp_path, size):
        np.save(tmp_path / "a.npy", make_pairs()["image"])
        raw = (tmp_path / "a.npy").read_bytes()
        (tmp_path / "a.npy").write_bytes(raw[:size] if size else raw + b"x")
        with pytest.raises(InputError, match=r"a\.npy"):
            open_source(tmp_path / "a.npy")


FUZZED = ["a.npy", "a.npz", "a.parquet", "a.feather", "stream.arrow", "a.h5", "v5.mat", "v73.mat"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    pairs = make_pairs()
    np.save(folder / "a.npy", pairs["image"])
    np.savez_compressed(folder / "a.npz", **pairs)
    for name in FUZZED[2:]:
        WRITERS[name](folder / name, pairs)
    return folder


@pytest.mark.parametrize("name", FUZZED)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_the_project_errors_alone(originals, name, data):
    raw = bytearray((originals / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))]
    damaged = originals / f"damaged{name}"
    damaged.write_bytes(raw)
    target = originals / "fuzz.zarr"
    try:
        source = open_source(damaged)
        for array in source.specs():
            for _ in source.blocks(array, 7):
                pass
        ingest_source(damaged, target)
    except SrchError:
        assert not target.exists()
    finally:
        shutil.rmtree(target, ignore_errors=True)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_zarr_metadata_raises_the_project_errors_alone(originals, data):
    folder = originals / "fuzzed.zarr"
    shutil.rmtree(folder, ignore_errors=True)
    write_zarr(folder, make_pairs(), data.draw(st.sampled_from([2, 3])))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    raw = bytearray(file.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw)
    expected = make_pairs()
    try:
        source = open_source(folder)
        for array, (shape, _) in source.specs().items():
            blocks = list(source.blocks(array, 7))
            assert sum(map(len, blocks)) == shape[0]
            assert array in expected
    except SrchError:
        pass  # refused, with the project's own error
