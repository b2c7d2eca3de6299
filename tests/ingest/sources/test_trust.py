"""Data that look readable but are not whole, or not the values: named, and never read as such."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse
import zarr

from srch_dist.errors import InputError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.arrays import ArraySource
from srch_dist.ingest.sources.formats import open_source
from tests.helpers.source_files import io_bytes, lists, make_pairs, whole, write_zarr

DENSE = np.where(make_pairs()["image"] > 0.5, make_pairs()["image"], 0).astype(np.float64)


class TestSparse:
    def refused(self, path: Path, name: str = "text"):
        source = open_source(path)
        assert "is a sparse matrix" in source.unreadable[name]
        assert not [other for other in source.specs() if other.startswith(name)]
        with pytest.raises(InputError, match=rf"{name} is a sparse matrix\. Save it as a dense"):
            ingest_source(path, path.with_name("none.zarr"))
        return source

    @pytest.mark.parametrize("version", ["4", "5"])
    @pytest.mark.parametrize("logical", [False, True])
    def test_matlab(self, tmp_path, version, logical):
        values = scipy.sparse.csc_matrix(DENSE > 0 if logical and version == "5" else DENSE)
        content = {"image": make_pairs()["image"], "text": values}
        scipy.io.savemat(tmp_path / "a.mat", content, format=version)
        self.refused(tmp_path / "a.mat")

    @pytest.mark.parametrize("stored", [True, False])
    def test_matlab_v73(self, tmp_path, stored):
        values = scipy.sparse.csc_matrix(DENSE)
        with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
            file["image"] = make_pairs()["image"].T
            group = file.create_group("text")
            group.attrs["MATLAB_sparse"] = np.uint64(DENSE.shape[0])
            group["jc"] = values.indptr
            if stored:  # a matrix of zeros has no values and no rows
                group["data"], group["ir"] = values.data, values.indices
        with (tmp_path / "a.mat").open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
        assert list(self.refused(tmp_path / "a.mat").specs()) == ["image"]

    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "dia", "bsr"])
    def test_scipy(self, tmp_path, kind):
        (tmp_path / "a").mkdir()
        np.save(tmp_path / "a" / "image.npy", make_pairs()["image"])
        scipy.sparse.save_npz(
            tmp_path / "a" / "text.npz", getattr(scipy.sparse, f"{kind}_matrix")(DENSE)
        )
        source = self.refused(tmp_path / "a")
        assert 'scipy.sparse.load_npz("text.npz").toarray()' in source.unreadable["text"]

    def test_members_of_an_archive(self, tmp_path):
        values = scipy.sparse.csr_matrix(DENSE)
        parts = {
            f"text_{part}": getattr(values, part) for part in ("data", "indices", "indptr", "shape")
        }
        np.savez(tmp_path / "a.npz", image=make_pairs()["image"], **parts)
        self.refused(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
    def test_groups_as_anndata_writes_them(self, tmp_path, name):
        values = scipy.sparse.csr_matrix(DENSE)
        parts = {"data": values.data, "indices": values.indices, "indptr": values.indptr}
        if name == "a.h5":
            with h5py.File(tmp_path / name, "w") as file:
                file["image"] = make_pairs()["image"]
                for part, content in parts.items():
                    file[f"text/{part}"] = content
        else:
            write_zarr(tmp_path / name, {"image": make_pairs()["image"]})
            write_zarr(tmp_path / name / "text", parts)
        self.refused(tmp_path / name)

    def test_arrays_in_memory(self):
        source = ArraySource({"image": DENSE, "text": scipy.sparse.csr_matrix(DENSE)})
        assert "text.toarray()" in source.unreadable["text"]

    def test_a_table_with_columns_of_such_names_is_no_matrix(self, tmp_path):
        columns = {name: pa.array(range(5)) for name in ("data", "row", "col")}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        assert set(open_source(tmp_path / "a.parquet").specs()) == {"data", "row", "col"}


class TestMissingChunks:
    @staticmethod
    def write(path: Path, chunks=(5, 6), shards=(10, 6), rows=range(23), **options):
        values = make_pairs()["image"]
        group = zarr.create_group(str(path))
        for name in ("image", "text"):
            array = group.create_array(
                name, shape=values.shape, chunks=chunks, shards=shards, dtype="f4", **options
            )
            part = rows if name == "image" else range(23)
            array.with_config({"write_empty_chunks": True})[part.start : part.stop] = values[
                part.start : part.stop
            ]
        return values

    @pytest.mark.parametrize("location", ["start", "end"])
    @pytest.mark.parametrize("chunks", [(5, 6), (5, 3), (10, 6)])
    def test_whole_shards_are_read(self, tmp_path, location, chunks):
        shards = {"shape": (10, 6), "index_location": location}
        values = self.write(tmp_path / "a.zarr", chunks, shards["shape"])
        np.testing.assert_array_equal(whole(open_source(tmp_path / "a.zarr"), "image"), values)

    @pytest.mark.parametrize(
        ("rows", "missing"), [(range(5), 4), (range(5, 23), 1), (range(15), 2), (range(20, 23), 4)]
    )
    def test_chunks_missing_within_a_shard_are_noticed(self, tmp_path, rows, missing):
        self.write(tmp_path / "a.zarr", rows=rows)
        source = open_source(tmp_path / "a.zarr")
        assert f"lacks {missing} of 5 chunks" in source.unreadable["image"]
        assert list(source.specs()) == ["text"]
        with pytest.raises(InputError, match="image lacks"):
            ingest_source(tmp_path / "a.zarr", tmp_path / "b.zarr")

    def test_chunks_missing_in_a_shard_of_shards_are_noticed(self, tmp_path):
        inner = zarr.codecs.ShardingCodec(chunk_shape=(5, 6))
        values = make_pairs()["image"]
        for name, rows in (("whole", 23), ("part", 12)):
            array = zarr.create(
                store=str(tmp_path / name), shape=(23, 6), chunks=(20, 6), dtype="f4",
                codecs=[zarr.codecs.ShardingCodec(chunk_shape=(10, 6), codecs=[inner])],
                zarr_format=3,
            )  # fmt: skip
            array.with_config({"write_empty_chunks": True})[:rows] = values[:rows]
        np.testing.assert_array_equal(whole(open_source(tmp_path / "whole"), "whole"), values)
        assert "lacks" in open_source(tmp_path / "part").unreadable["part"]

    @pytest.mark.parametrize("version", [2, 3])
    def test_files_outside_the_grid_do_not_make_up_for_a_missing_chunk(self, tmp_path, version):
        write_zarr(tmp_path / "a.zarr", make_pairs(), version)
        folder = tmp_path / "a.zarr" / "image"
        names = ["c/1/0", "c/9/0"] if version == 3 else ["1.0", "9.0"]
        target = folder / names[1]
        target.parent.mkdir(exist_ok=True)
        (folder / names[0]).rename(target)
        assert "lacks 1 of 5 chunks" in open_source(tmp_path / "a.zarr").unreadable["image"]

    def test_damaged_index_of_a_shard_is_refused(self, tmp_path):
        self.write(tmp_path / "a.zarr")
        file = next(file for file in (tmp_path / "a.zarr/image/c").rglob("*") if file.is_file())
        raw = bytearray(file.read_bytes())
        raw[-10] ^= 1
        file.write_bytes(raw)
        assert "checksum" in open_source(tmp_path / "a.zarr").unreadable["image"]

    def test_chunks_of_the_fill_value_do_not_stop_what_does_not_want_them(self, tmp_path):
        pairs = make_pairs()
        write_zarr(tmp_path / "a.zarr", pairs)
        for file in (tmp_path / "a.zarr" / "split" / "c").iterdir():
            file.unlink()
        reason = open_source(tmp_path / "a.zarr").unreadable["split"]
        assert "lacks 5 of 5 chunks; missing chunks would read as 0" in reason
        assert "write_empty_chunks=True" in reason
        with pytest.raises(InputError, match=r"split lacks .* --modalities image,text"):
            ingest_source(tmp_path / "a.zarr", tmp_path / "b.zarr")
        store = ingest_source(tmp_path / "a.zarr", tmp_path / "b.zarr", ["image", "text"])
        assert store.side == ("titles",)

    def test_chunks_of_hdf5_are_looked_up(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"], file["text"] = make_pairs()["image"], make_pairs()["text"]
            data = file.create_dataset("other", (23, 6), "f4", chunks=(5, 6), maxshape=(None, 6))
            data[:20] = 1
        assert "lacks 1 of 5 chunks" in open_source(tmp_path / "a.h5").unreadable["other"]


class TestChecksums:
    """A changed value is noticed wherever the format carries a checksum."""

    def damage(self, path: Path, at: int) -> None:
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(raw)

    def test_compressed_matlab(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 256, (1, 4000)).astype(np.uint8)
        body = io_bytes({"image": values})
        # Stored blocks of deflate: a flipped bit changes a value, and nothing else.
        packed = zlib.compress(body[128:], 0)
        head = body[:128] + struct.pack("<II", 15, len(packed))
        (tmp_path / "a.mat").write_bytes(head + packed)
        np.testing.assert_array_equal(whole(open_source(tmp_path / "a.mat"), "image"), values[0])
        self.damage(tmp_path / "a.mat", 2000)
        with pytest.raises(InputError, match=r"a\.mat .*incorrect data check"):
            open_source(tmp_path / "a.mat")

    def test_parquet_pages(self, tmp_path):
        values = make_pairs()["image"]
        pq.write_table(
            pa.table({"image": lists(values)}), tmp_path / "a.parquet", compression="none",
            use_dictionary=False, write_page_checksum=True,
        )  # fmt: skip
        at = (tmp_path / "a.parquet").read_bytes().index(values[3].tobytes())
        self.damage(tmp_path / "a.parquet", at)
        with pytest.raises(InputError, match="CRC checksum"):
            whole(open_source(tmp_path / "a.parquet"), "image")

    @pytest.mark.parametrize("name", ["crc32", "adler32", "fletcher32"])
    def test_zarr_v2(self, tmp_path, name):
        array = zarr.create(
            store=str(tmp_path / "image"), shape=(23, 6), chunks=(23, 6), dtype="f4",
            zarr_format=2, compressor=None, filters=[{"id": name}],
        )  # fmt: skip
        array[:] = make_pairs()["image"]
        np.testing.assert_array_equal(whole(open_source(tmp_path / "image"), "image"), array[:])
        self.damage(tmp_path / "image" / "0.0", 100)
        with pytest.raises(InputError, match="image cannot be read"):
            whole(open_source(tmp_path / "image"), "image")

    def test_hdf5(self, tmp_path):
        values = make_pairs()["image"]
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("image", data=values, chunks=(23, 6), fletcher32=True)
        at = (tmp_path / "a.h5").read_bytes().index(values[3].tobytes())
        self.damage(tmp_path / "a.h5", at)
        with pytest.raises(InputError, match=r"a\.h5"):
            whole(open_source(tmp_path / "a.h5"), "image")

    def test_zarr_shards(self, tmp_path):
        values = TestMissingChunks.write(
            tmp_path / "a.zarr", compressors=[zarr.codecs.Crc32cCodec()]
        )
        file = tmp_path / "a.zarr" / "image" / "c" / "0" / "0"
        self.damage(file, file.read_bytes().index(values[3].tobytes()))
        with pytest.raises(InputError, match="image cannot be read"):
            whole(open_source(tmp_path / "a.zarr"), "image")


def test_a_member_whose_name_is_no_text_is_refused(tmp_path):
    path = tmp_path / "pairs.npz"
    np.savez(path, image=np.eye(4, 3), text=np.eye(4, 2))
    raw = bytearray(path.read_bytes())
    raw[7] |= 8  # flags of the local header: its name is UTF-8
    raw[32] = 0xA8  # no start of a UTF-8 sequence
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cannot be read"):
        ingest_source(path, tmp_path / "store")
