"""Every format, written by its own library, becomes the same store; damage is a clear refusal."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import zlib

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import zarr

from srch_dist.errors import ExtraError, InputError, StorageError
from srch_dist.ingest import limits
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.folder import _families_of
from srch_dist.ingest.sources.formats import open_in_process, open_source
from srch_dist.ingest.unreadable import refuse_unreadable
from tests.helpers.source_files import (
    ROWS,
    TITLES,
    WRITERS,
    lists,
    make_pairs,
    table,
    write_clip_retrieval,
    write_hdf5,
    write_parquet,
)

pytestmark = pytest.mark.slow


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


def test_what_cannot_be_an_array_is_skipped_with_a_reason(tmp_path):
    whole = table(make_pairs())
    whole = whole.append_column("exif", pa.array([{"a": 1}] * ROWS))
    whole = whole.append_column("width", pa.array([None, *range(1, ROWS)]))
    whole = whole.append_column("caption", pa.array([None, *TITLES[1:]]))
    pq.write_table(whole, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    assert set(source.skipped) == {"exif"}
    assert "lacks 1 of 23 values" in source.unreadable["width"]
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
    with pytest.raises(InputError, match=r"image 3, text 2; 1 id only in image_embedding: z"):
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
    with pytest.raises(InputError, match="image row 9: 1 values, expected 2 as in row 0"):
        ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a.parquet", "a.h5"])
def test_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, name):
    WRITERS[name](tmp_path / name, make_pairs())
    for module in ("h5py", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraError, match=r"pip install 'srch-dist\[formats\]'"):
        open_in_process(tmp_path / name)


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
        source = open_source(tmp_path / "a.npy")
        assert not source.specs()
        assert "object array" in source.unreadable["a"]
        assert not marker.exists()

    def test_pickles_in_zarr_v2_are_skipped_unread(self, tmp_path):
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
        assert "pickle" in source.unreadable["trap"]

    def test_shape_that_the_file_does_not_hold_is_refused(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("image", shape=(10**15, 8), chunks=(1000, 8), dtype="f4")
        assert "lacks" in open_source(tmp_path / "a.h5").unreadable["image"]
        zarr.create_array(str(tmp_path / "a.zarr"), shape=(10**12, 8), chunks=(1000, 8), dtype="f4")
        assert "lacks 1000000000 of 1000000000" in open_source(tmp_path / "a.zarr").unreadable["a"]

    def test_huge_chunks_are_refused(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            shape = (1 << 20, 512)
            data = file.create_dataset(
                "image", shape=shape, chunks=shape, dtype="f4", compression="gzip"
            )
            data.id.write_direct_chunk((0, 0), zlib.compress(b""))
        assert "smaller chunks" in open_source(tmp_path / "a.h5").unreadable["image"]

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
        assert set(source.unreadable) == {"raw", "virtual"}

    @pytest.mark.parametrize("name", ["a.npz", "a.h5", "v5.mat", "a.zarr", "a.parquet"])
    def test_what_grows_beyond_measure_is_refused(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr(limits, "BOMB_BYTES", 1 << 20)
        monkeypatch.setattr(limits, "MAX_BLOCK_BYTES", 1 << 20)
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
        with pytest.raises(InputError, match=r"would expand|decompresses to more"):
            refuse_unreadable(open_in_process(tmp_path / name), None, None)

    @pytest.mark.parametrize("kind", [0, 8, 14, 15, 20, 47367])
    def test_mat_with_an_unknown_data_type_is_refused(self, tmp_path, kind):
        """SciPy would end the process."""
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, {"image": np.ones((5, 3), np.float32)})
        content = path.read_bytes()
        tag = (7).to_bytes(4, "little") + (60).to_bytes(4, "little")
        assert content.count(tag) == 1
        path.write_bytes(content.replace(tag, kind.to_bytes(4, "little") + tag[4:]))
        with pytest.raises(InputError, match=f"variable has the unknown data type {kind}$"):
            open_source(path)

    def test_mat_with_a_cell_of_an_unknown_class_is_refused(self, tmp_path):
        """SciPy raises an UnboundLocalError."""
        path = tmp_path / "a.mat"
        cells = np.empty((1, 1), dtype=object)
        cells[0, 0] = "owl"
        scipy.io.savemat(path, {"titles": cells})
        content = bytearray(path.read_bytes())
        # Tag of the flags of the matrix in the cell; the class is the byte after it.
        at = content.rindex(bytes([6, 0, 0, 0, 8, 0, 0, 0])) + 8
        assert content[at] == 4
        content[at] = 99
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.mat is not a readable \.mat file"):
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
        monkeypatch.setattr(limits, "MAX_ROW_BYTES", 20)
        write_parquet(tmp_path / "a.parquet", make_pairs())
        with pytest.raises(InputError, match=r"a row of image, shape \(23, 6\), has 24 bytes"):
            ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")

    def test_store_that_the_disk_cannot_hold_is_refused(self, tmp_path, monkeypatch):
        free = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
        write_parquet(tmp_path / "a.parquet", make_pairs())
        with pytest.raises(StorageError, match="1000 bytes free"):
            ingest_source(tmp_path / "a.parquet", tmp_path / "a.zarr")
        assert not (tmp_path / "a.zarr").exists()

    @pytest.mark.parametrize("size", [0, 4, 100, -8])
    def test_npy_of_another_length_than_its_header_says_is_refused(self, tmp_path, size):
        np.save(tmp_path / "a.npy", make_pairs()["image"])
        raw = (tmp_path / "a.npy").read_bytes()
        (tmp_path / "a.npy").write_bytes(raw[:size] if size else raw + b"x")
        assert "a" in open_source(tmp_path / "a.npy").unreadable
        with pytest.raises(InputError, match=r"a\.npy"):
            ingest_source(tmp_path / "a.npy", tmp_path / "a.zarr")


@pytest.mark.parametrize(("name", "converted"), [("captions.CSV", True), ("a.jpg", False)])
def test_a_skipped_table_says_what_to_convert_it_to(tmp_path, name, converted):
    (tmp_path / name).write_text("a,b\n")
    _families, skipped = _families_of(tmp_path, inner=False)
    assert skipped[name].startswith("unknown format")
    assert ("convert it to .parquet" in skipped[name]) == converted
