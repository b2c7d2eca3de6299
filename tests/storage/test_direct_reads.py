"""Chunks that are read without Zarr hold what Zarr reads from them."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from srch_dist.errors import StorageError
from srch_dist.storage import arrays
from srch_dist.storage._direct_reads import read_plain

SPANS = ((0, 23), (0, 5), (5, 10), (20, 23), (3, 4), (4, 17), (21, 40), (7, 7))


def stored(path, shape, dtype, chunk_rows=5, chunk_columns=None):
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    arrays.create_array(path, shape, chunk_rows, dtype, chunk_columns=chunk_columns)
    for start in range(0, shape[0], chunk_rows):
        arrays.write_rows(path, start, values[start : start + chunk_rows])
    return values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(23,), (23, 3), (23, 4, 2)])
def test_rows_are_those_that_zarr_reads(tmp_path, shape, dtype):
    values = stored(tmp_path / "a", shape, dtype)
    theirs = zarr.open_array(str(tmp_path / "a"), mode="r")
    for start, stop in SPANS:
        found = read_plain(tmp_path / "a", theirs, start, stop)
        if start == stop:
            assert found is None
            continue
        assert found.dtype == theirs.dtype
        np.testing.assert_array_equal(found, theirs[start:stop])
        np.testing.assert_array_equal(arrays.read_rows(tmp_path / "a", start, stop), found)
        np.testing.assert_array_equal(found, values[start:stop])


def test_a_part_of_a_chunk_does_not_hold_all_of_it(tmp_path):
    stored(tmp_path / "a", (23, 3), "float32")
    part = arrays.read_rows(tmp_path / "a", 6, 8)
    assert part.base is None
    part[:] = 0  # as what Zarr returns


@pytest.mark.parametrize("columns", [slice(None), slice(0, 2), slice(3, 4), slice(1, 6)])
@pytest.mark.parametrize("chunk_columns", [1, 2, 7, 9])
def test_columns_are_those_that_zarr_reads(tmp_path, columns, chunk_columns):
    stored(tmp_path / "a", (23, 7), "float32", chunk_columns=chunk_columns)
    theirs = zarr.open_array(str(tmp_path / "a"), mode="r")
    for start, stop in SPANS[:-1]:
        found = read_plain(tmp_path / "a", theirs, start, stop, columns)
        np.testing.assert_array_equal(found, theirs[start:stop, columns])


@pytest.mark.parametrize("kind", ["other byte order", "text"])
def test_others_are_left_to_zarr(tmp_path, kind):
    path, shape = tmp_path / "a", (23, 3)
    if kind == "other byte order":
        values = np.arange(69, dtype=np.float32).reshape(shape)
        array = zarr.create_array(
            str(path), shape=shape, chunks=(5, 3), dtype=np.float32,
            serializer=BytesCodec(endian="big"), compressors=[Crc32cCodec()],
        )  # fmt: skip
        array[:] = values
    else:
        values = stored(path, shape, np.dtypes.StringDType())
    assert read_plain(path, zarr.open_array(str(path), mode="r"), 0, 23) is None
    np.testing.assert_array_equal(arrays.read_rows(path), values)


def test_a_damaged_chunk_is_left_to_zarr_which_refuses_it(tmp_path):
    stored(tmp_path / "a", (23, 3), "float32")
    chunk = tmp_path / "a" / "c" / "1" / "0"
    raw = bytearray(chunk.read_bytes())
    raw[7] ^= 1
    chunk.write_bytes(raw)
    array = zarr.open_array(str(tmp_path / "a"), mode="r")
    assert read_plain(tmp_path / "a", array, 4, 6) is None
    assert read_plain(tmp_path / "a", array, 0, 5) is not None
    with pytest.raises(StorageError, match="row 5 is damaged"):
        arrays.read_rows(tmp_path / "a", 4, 6)
