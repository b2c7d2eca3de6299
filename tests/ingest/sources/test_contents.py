"""Kinds of values in files: which are read, which are skipped, and which are refused by name."""

from __future__ import annotations

import base64
import json
import struct
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
from tests.helpers.source_files import lists, make_pairs, whole, write_zarr


class TestBfloat16:
    bits = (make_pairs()["image"].view("u4") >> 16).astype("<u2")

    def write(self, path: Path, image: np.ndarray) -> None:
        content = {"image": image, "text": make_pairs()["text"]}
        if path.suffix == ".npz":
            np.savez(path, **content)
        elif path.suffix == ".h5":
            with h5py.File(path, "w") as file:
                for name, values in content.items():
                    file[name] = values
        elif path.suffix == ".zarr":
            write_zarr(path, content, 2)
        else:
            path.mkdir()
            for name, values in content.items():
                np.save(path / f"{name}.npy", values)

    @pytest.mark.parametrize("name", ["npy", "a.npz", "a.h5"])
    def test_untyped_bytes_are_refused_with_the_line_that_converts(self, tmp_path, name):
        self.write(tmp_path / name, self.bits.view("V2"))
        with pytest.raises(InputError, match=r"image has 2 bytes .* bfloat16.*view\('<f4'\)"):
            ingest_source(tmp_path / name, tmp_path / "b.zarr", ["image", "text"])

    @pytest.mark.parametrize("name", ["npy", "a.npz", "a.h5", "a.zarr"])
    def test_bit_patterns_are_refused_as_a_modality(self, tmp_path, name):
        self.write(tmp_path / name, self.bits)
        with pytest.raises(InputError, match=r"image is uint16, .* bfloat16.*<< 16\)\.view\('<f4'"):
            ingest_source(tmp_path / name, tmp_path / "b.zarr", ["image", "text"])
        assert not (tmp_path / "b.zarr").exists()

    @pytest.mark.parametrize("top", [10, 300, 5000, 65535])
    def test_counts_are_no_bit_patterns(self, tmp_path, top):
        counts = np.random.default_rng(0).integers(0, top + 1, (23, 6)).astype(np.uint16)
        self.write(tmp_path / "a.npz", counts)
        store = ingest_source(tmp_path / "a.npz", tmp_path / "b.zarr", ["image", "text"])
        np.testing.assert_array_equal(store.read("image"), counts)

    def test_arrays_of_ml_dtypes_are_converted(self):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        values = make_pairs()["image"].astype(ml_dtypes.bfloat16)
        source = ArraySource({"image": values})
        assert source.specs()["image"] == ((23, 6), np.float32)
        np.testing.assert_array_equal(whole(source, "image"), values.astype(np.float32))


class TestAttributes:
    """Attributes by the CF conventions, which say that the numbers are not the values."""

    def write(self, path: Path, attributes: dict, values=None) -> None:
        content = make_pairs()
        if values is not None:
            content["image"] = values
        if path.suffix == ".h5":
            with h5py.File(path, "w") as file:
                for name in ("image", "text"):
                    file[name] = content[name]
                file["image"].attrs.update(attributes)
        else:
            write_zarr(path, {name: content[name] for name in ("image", "text")})
            zarr.open_array(str(path / "image"), mode="r+").attrs.update(attributes)

    @pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
    @pytest.mark.parametrize(
        "attributes",
        [{"scale_factor": 0.5}, {"add_offset": -3}, {"scale_factor": 2, "add_offset": 1}],
    )
    def test_packed_numbers_are_refused_by_name(self, tmp_path, name, attributes):
        self.write(tmp_path / name, attributes)
        source = open_source(tmp_path / name)
        assert list(source.specs()) == ["text"]
        with pytest.raises(InputError, match=r"image holds packed numbers: its attributes [sa]"):
            ingest_source(tmp_path / name, tmp_path / "b.zarr", ["image", "text"])

    @pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
    def test_neutral_attributes_change_nothing(self, tmp_path, name):
        attributes = {"scale_factor": 1.0, "add_offset": 0, "units": "m", "_FillValue": -999.0}
        self.write(tmp_path / name, attributes)
        found = whole(open_source(tmp_path / name), "image")
        np.testing.assert_array_equal(found, make_pairs()["image"])

    @pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
    @pytest.mark.parametrize("fill", [-999.0, "base64"])
    def test_fill_values_are_missing_values(self, tmp_path, name, fill):
        values = make_pairs()["image"]
        values[17, 3] = -999
        attribute = fill
        if fill == "base64":
            attribute = base64.b64encode(struct.pack("<d", -999)).decode()
        self.write(tmp_path / name, {"_FillValue": attribute}, values)
        reason = r"image row 17: missing value \(.*, which the attribute _Fill"
        with pytest.raises(InputError, match=reason):
            ingest_source(tmp_path / name, tmp_path / "b.zarr")

    def test_arrays_in_memory(self, tmp_path):
        self.write(tmp_path / "a.zarr", {"scale_factor": 3})
        array = zarr.open_array(str(tmp_path / "a.zarr" / "image"), mode="r")
        assert "scale_factor=3" in ArraySource({"image": array}).unreadable["image"]


class TestLists:
    """Vectors of a table: null, empty or of another length."""

    def write(self, path: Path, column: list, kind=None) -> None:
        image = lists(make_pairs()["image"])
        values = pa.array(column, pa.list_(kind or pa.float32()))
        content = pa.table({"image": image, "text": lists(make_pairs()["text"]), "other": values})
        if path.suffix == ".feather":
            pyarrow.feather.write_feather(content, path)
        else:
            pq.write_table(content, path, row_group_size=9)

    @pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
    @pytest.mark.parametrize("row", [0, 11])
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (None, "row {row}: missing value"),
            ([], "row {row}: 0 values, expected 3 as in row {first}"),
            ([np.nan], "row {row}: 1 values, expected 3 as in row {first}"),
            ([1.0, None, 2.0], "row {row}: missing value"),
        ],
    )
    def test_the_bad_row_is_named(self, tmp_path, name, row, value, reason):
        column = [[1.0, 2.0, 3.0]] * 23
        column[row] = value
        self.write(tmp_path / name, column)
        source = open_source(tmp_path / name)
        assert reason.format(row=row, first=int(row == 0)) in source.unreadable["other"]
        with pytest.raises(InputError, match=rf"other row {row}: "):
            ingest_source(tmp_path / name, tmp_path / "b.zarr")
        assert ingest_source(tmp_path / name, tmp_path / "b.zarr", ["image", "text"]).rows == 23

    @pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
    def test_ragged_lists_of_ids_stop_nothing(self, tmp_path, name):
        self.write(tmp_path / name, [[row] * (5 + row % 2) for row in range(23)], pa.int64())
        store = ingest_source(tmp_path / name, tmp_path / "b.zarr")
        assert dict(store.modalities) == {"image": 6, "text": 4}
        assert store.side == ()

    def test_lists_of_lists_are_named(self, tmp_path):
        nested = pa.array([[[1.0, 2.0]] * 2] * 23)
        content = pa.table({"image": lists(make_pairs()["image"]), "other": nested})
        pq.write_table(content, tmp_path / "a.parquet")
        assert "one flat list" in open_source(tmp_path / "a.parquet").unreadable["other"]


class TestUnwanted:
    """What an ingest does not ask for does not stop it."""

    @pytest.mark.parametrize("name", ["npy", "a.npz"])
    def test_objects_records_dates_and_bytes(self, tmp_path, name):
        others = {
            "captions": np.array(["a", "b"] * 11 + ["c"], object),
            "boxes": np.zeros(23, [("x", "f4"), ("y", "f4")]),
            "taken": np.datetime64("2024-05-01") + np.arange(23),
            "path": np.array([b"x.jpg"] * 23),
        }
        content = {**make_pairs(), **others}
        if name == "npy":
            (tmp_path / name).mkdir()
            for array, values in content.items():
                np.save(tmp_path / name / f"{array}.npy", values)
        else:
            np.savez(tmp_path / name, **content)
        source = open_source(tmp_path / name)
        assert set(source.specs()) == set(make_pairs())
        assert set(source.skipped) == {"boxes", "taken"}
        assert set(source.unreadable) == {"captions", "path"}
        store = ingest_source(tmp_path / name, tmp_path / "b.zarr", ["image", "text"])
        assert set(store.side) == {"split", "titles"}
        for wanted in ("captions", "path"):
            with pytest.raises(InputError, match=f"{wanted} is an "):
                ingest_source(
                    tmp_path / name, tmp_path / "c.zarr", ["image", "text"], side=[wanted]
                )

    def test_datasets_without_values_or_with_an_unknown_filter(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"], file["text"] = make_pairs()["image"], make_pairs()["text"]
            file.create_dataset("attention", (23, 64), "f4", chunks=(10, 64))
            file.create_dataset("lists", (23,), h5py.vlen_dtype(np.int32))
            file["boxes"] = np.zeros(23, np.dtype(("f4", (4,))))
        source = open_source(tmp_path / "a.h5")
        assert source.specs()["boxes"][0] == (23, 4)
        assert set(source.unreadable) == {"attention", "lists"}
        store = ingest_source(tmp_path / "a.h5", tmp_path / "b.zarr", ["image", "text"])
        assert store.side == ("boxes",)

    @pytest.mark.parametrize("codec", ["numcodecs.unknown", "sharding_indexed"])
    def test_zarr_arrays_of_unknown_codecs(self, tmp_path, codec):
        write_zarr(tmp_path / "a.zarr", make_pairs())
        file = tmp_path / "a.zarr" / "split" / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["codecs"].append({"name": codec, "configuration": {}})
        file.write_text(json.dumps(metadata))
        source = open_source(tmp_path / "a.zarr")
        assert set(source.unreadable) == {"split"}
        assert ingest_source(tmp_path / "a.zarr", tmp_path / "b.zarr", ["image", "text"]).rows == 23


class TestText:
    def test_big_endian_text_of_every_reader(self, tmp_path):
        titles = make_pairs()["titles"]
        big = titles.astype(titles.dtype.newbyteorder(">"))
        np.save(tmp_path / "a.npy", big)
        np.savez(tmp_path / "b.npz", b=big)
        folder = tmp_path / "c.zarr"
        folder.mkdir()
        metadata = {
            **{"zarr_format": 2, "shape": [23], "chunks": [23], "dtype": big.dtype.str},
            **{"compressor": None, "filters": None, "fill_value": "", "order": "C"},
        }
        (folder / ".zarray").write_text(json.dumps(metadata))
        (folder / "0").write_bytes(big.tobytes())
        source = open_source([tmp_path / "a.npy", tmp_path / "b.npz", folder])
        for name in ("a", "b", "c"):
            for block in source.blocks(name, 7):
                assert block.dtype.isnative
            assert whole(source, name).astype(np.dtypes.StringDType()).tolist() == titles.tolist()
        memory = ArraySource({"a": big})
        assert whole(memory, "a").astype(np.dtypes.StringDType()).tolist() == titles.tolist()

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_char_arrays_of_more_axes_in_matlab_v73(self, tmp_path, order):
        words = np.array([[f"a{row:03d}", f"b{row:03d}"] for row in range(23)])
        letters = words.view("U1").reshape(23, 2, 4).view("u4").astype(f"{order}u2")
        with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
            file["titles"] = letters.transpose(1, 2, 0)  # (23, 4, 2) in MATLAB
            file["titles"].attrs["MATLAB_class"] = np.bytes_("char")
        with (tmp_path / "a.mat").open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
        source = open_source(tmp_path / "a.mat")
        assert source.specs()["titles"][0] == (23, 2)
        assert whole(source, "titles").tolist() == words.tolist()

    def test_char_arrays_of_more_axes_in_matlab_v5_are_refused(self, tmp_path):
        content = {"titles": np.array([["abcd", "defg"]] * 5), "image": np.ones((5, 3))}
        scipy.io.savemat(tmp_path / "a.mat", content)
        source = open_source(tmp_path / "a.mat")
        assert "char array of 3 axes" in source.unreadable["titles"]
        assert list(source.specs()) == ["image"]


@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "i2", "u2", "u1"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_matlab_v4_of_every_stored_type(tmp_path, kind, order):
    values = np.arange(12).reshape(4, 3).astype(kind)
    code = ["f8", "f4", "i4", "i2", "u2", "u1"].index(kind)
    head = np.array([code * 10 + (order == ">") * 1000, 4, 3, 0, 6], f"{order}i4")
    stored = values.T.astype(values.dtype.newbyteorder(order)).tobytes()
    (tmp_path / "a.mat").write_bytes(head.tobytes() + b"image\0" + stored)
    source = open_source(tmp_path / "a.mat")
    assert source.specs()["image"] == ((4, 3), np.dtype(kind))
    np.testing.assert_array_equal(whole(source, "image"), values, strict=True)


def test_objects_in_memory_are_text_or_refused():
    source = ArraySource({"words": np.array(["a", "long"], object), "mixed": np.array([{}, 1])})
    assert whole(source, "words").tolist() == ["a", "long"]
    assert set(source.unreadable) == {"mixed"}


def test_complex_numbers_of_matlab_are_skipped(tmp_path):
    scipy.io.savemat(
        tmp_path / "a.mat", {"wave": np.ones((5, 3), complex), "image": np.ones((5, 3))}
    )
    source = open_source(tmp_path / "a.mat")
    assert set(source.skipped) == {"wave"}
    assert list(source.specs()) == ["image"]
