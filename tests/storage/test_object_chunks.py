"""Chunks in an object store: the same arrays as on a disk, one object a chunk, damage is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.errors import StorageError
from srch_dist.storage import arrays
from srch_dist.storage._object_chunks import in_parallel
from tests.helpers.memory_bucket import memory_bucket

ROWS, WIDTH = 23, 7


def make(place, dtype="f4", chunk_rows=5, columns=None):
    values = np.arange(ROWS * WIDTH).reshape(ROWS, WIDTH).astype(dtype)
    arrays.create_array(place, values.shape, chunk_rows, dtype, chunk_columns=columns)
    arrays.write_rows(place, 0, values)
    return values


@settings(max_examples=60, deadline=None)
@given(
    chunk_rows=st.integers(1, 30),
    columns=st.sampled_from([None, 1, 2, 3, 7]),
    rows=st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)).map(sorted),
    across=st.tuples(st.integers(0, WIDTH), st.integers(0, WIDTH)).map(sorted),
    dtype=st.sampled_from(["f4", "f8", "i8", "u1", "?"]),
)
def test_rows_and_columns_are_those_that_were_written(chunk_rows, columns, rows, across, dtype):
    with memory_bucket() as place:
        values = make(place, dtype, chunk_rows, columns)
        found = arrays.read_rows(place, *rows, slice(*across))
        np.testing.assert_array_equal(found, values[slice(*rows), slice(*across)])
        found[:] = 0  # the caller owns it
        np.testing.assert_array_equal(arrays.read_rows(place), values)


@pytest.mark.parametrize("shape", [(9,), (9, 2), (9, 2, 3), (0,), (0, 4)])
def test_shapes(bucket, shape):
    values = np.random.default_rng(0).normal(size=shape)
    assert arrays.create_chunk(bucket, values) == arrays.checksum(values)
    np.testing.assert_array_equal(arrays.read_rows(bucket), values)


def test_chunks_are_the_files_that_zarr_writes(bucket, tmp_path):
    make(bucket, columns=3)
    make(tmp_path / "a", columns=3)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    for file in files:
        key = file.relative_to(tmp_path / "a").as_posix()
        assert (bucket / key).read_bytes() == file.read_bytes()
    assert len(files) == len(list(bucket.files()))


def test_writing_part_of_a_chunk_keeps_the_rest(bucket):
    values = make(bucket)
    arrays.write_rows(bucket, 3, values[3:9] + 1)
    values[3:9] += 1
    np.testing.assert_array_equal(arrays.read_rows(bucket), values)


def test_missing_and_damaged_chunks_are_named(bucket):
    make(bucket)
    (bucket / "c/2/0").unlink()
    with pytest.raises(StorageError, match=r"chunk with row 10 is missing \(s3://bucket/place/c/2"):
        arrays.read_rows(bucket)
    np.testing.assert_array_equal(len(arrays.read_rows(bucket, 0, 10)), 10)
    content = bytearray((bucket / "c/1/0").read_bytes())
    content[5] ^= 1
    (bucket / "c/1/0").write_bytes(content)
    with pytest.raises(StorageError, match=r"chunk with row 5 is damaged \(s3://bucket/place/c/1"):
        arrays.read_rows(bucket, 4, 8)
    (bucket / "c/1/0").write_bytes(content[:-1])
    with pytest.raises(StorageError, match="143 bytes instead of 144"):
        arrays.read_rows(bucket, 4, 8)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
@pytest.mark.parametrize("size", [1, 1 << 40])
def test_parallel_calls_keep_the_order(count, size):
    assert list(in_parallel(lambda value: value**2, range(count), size)) == [
        value**2 for value in range(count)
    ]


def test_parallel_calls_pass_on_errors():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda value: 1 // value, [3, 0, 2], 1))
