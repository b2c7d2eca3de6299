"""Arrays in row chunks: values come back, and lost or damaged chunks are noticed."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr

from srch_dist.errors import InputError, StorageError
from srch_dist.storage import arrays, locations
from srch_dist.storage.foreign_zarr import ForeignZarr


def write(path: Path, values: np.ndarray, chunk_rows: int = 4) -> None:
    arrays.create_array(path, values.shape, chunk_rows, values.dtype)
    for start in range(0, len(values), chunk_rows):
        arrays.write_rows(path, start, values[start : start + chunk_rows])


def chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in (path / "c").rglob("*") if file.is_file())


DTYPES = [np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(10,), (10, 3), (1, 3), (4, 2), (10, 2, 2)])
def test_rows_come_back_as_written(tmp_path, dtype, shape):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    write(tmp_path / "a", values)
    np.testing.assert_array_equal(arrays.read_rows(tmp_path / "a"), values, strict=True)
    np.testing.assert_array_equal(arrays.read_rows(tmp_path / "a", 3, 9), values[3:9])


def test_checksum_of_written_rows_is_the_crc32_of_their_bytes(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays.create_array(tmp_path / "a", (4, 3), 4, np.float32)
    assert arrays.write_rows(tmp_path / "a", 0, values.T) == zlib.crc32(values.T.tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("position", [0, -1, -5])
def test_flipped_byte_of_a_chunk_is_noticed_at_reading(tmp_path, dtype, position):
    write(tmp_path / "a", np.arange(24).reshape(12, 2).astype(dtype))
    file = chunk_files(tmp_path / "a")[1]
    raw = bytearray(file.read_bytes())
    raw[position] ^= 0x20
    file.write_bytes(raw)
    with pytest.raises(StorageError, match=r"chunk with row 4 is damaged \(.*/c/1"):
        arrays.read_rows(tmp_path / "a", 4, 8)
    assert len(arrays.read_rows(tmp_path / "a", 0, 4)) == 4


@pytest.mark.parametrize("size", [0, 1, 20])
def test_truncated_chunk_is_noticed_at_reading(tmp_path, size):
    write(tmp_path / "a", np.ones((12, 2), dtype=np.float32))
    file = chunk_files(tmp_path / "a")[0]
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(
        StorageError, match=r"chunk with row \d+ (is damaged|has \d+ bytes instead of \d+) \(.*/c/"
    ):
        arrays.read_rows(tmp_path / "a")


@pytest.mark.parametrize("dtype", DTYPES)
def test_missing_chunk_is_noticed_at_reading(tmp_path, dtype):
    write(tmp_path / "a", np.arange(24).reshape(12, 2).astype(dtype))
    chunk_files(tmp_path / "a")[1].unlink()
    with pytest.raises(StorageError, match="missing"):
        arrays.read_rows(tmp_path / "a")
    assert arrays.missing_chunks(tmp_path / "a") == 1


@pytest.mark.parametrize("value", [0, 255])
def test_chunks_of_one_value_are_not_taken_for_missing(tmp_path, value):
    write(tmp_path / "a", np.full((12, 2), value, dtype=np.uint8))
    assert arrays.missing_chunks(tmp_path / "a") == 0
    assert (arrays.read_rows(tmp_path / "a") == value).all()


def claim(path: Path, shape: list[int], chunks: list[int], written: int) -> None:
    """An array of bytes whose metadata claim far more than the ``written`` chunks."""
    arrays.create_array(path, (1, 1), 1, np.uint8)
    file = path / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["shape"] = shape
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    file.write_text(json.dumps(metadata))
    for number in range(written):
        place = path / "c" / str(number)
        place.mkdir(parents=True)
        (place / "0").write_bytes(bytes(5))


@pytest.mark.parametrize("written", [0, 3])
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [([10**12, 1], [1, 1]), ([10**12, 8], [10, 1]), ([10**18, 1], [1, 1]), ([3, 10**12], [1, 1])],
)
def test_counting_the_chunks_of_a_hostile_array_takes_next_to_nothing(
    tmp_path, shape, chunks, written
):
    claim(tmp_path / "a", shape, chunks, written)
    claimed = math.prod(-(-size // step) for size, step in zip(shape, chunks, strict=True))
    tracemalloc.start()
    started = time.process_time()
    assert arrays.missing_chunks(tmp_path / "a") == claimed - written
    assert time.process_time() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_array_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        arrays.read_rows(tmp_path / "nowhere")


def test_an_array_is_never_made_over_another(tmp_path):
    write(tmp_path / "a", np.ones((4, 2)))
    with pytest.raises(Exception, match="exists"):
        arrays.create_array(tmp_path / "a", (4, 2), 4, np.float64)
    np.testing.assert_array_equal(arrays.read_rows(tmp_path / "a"), np.ones((4, 2)))


def test_a_single_chunk_replaces_what_an_earlier_try_left(tmp_path):
    arrays.create_chunk(tmp_path / "a", np.ones((5, 2)))
    arrays.create_chunk(tmp_path / "a", np.arange(3))
    np.testing.assert_array_equal(arrays.read_rows(tmp_path / "a"), np.arange(3))
    assert len(chunk_files(tmp_path / "a")) == 1


def test_empty_chunk_comes_back_empty(tmp_path):
    arrays.create_chunk(tmp_path / "a", np.empty(0, dtype=np.int64))
    found = arrays.read_rows(tmp_path / "a")
    assert (found.shape, found.dtype) == ((0,), np.int64)


@pytest.mark.parametrize(
    ("location", "expected"), [("a/b", "a/b"), ("file:///a/b", "/a/b"), (Path("c"), "c")]
)
def test_local_paths_and_file_urls_are_places(location, expected):
    # Absolute, because workers have working directories of their own.
    assert locations.local_path(location) == Path(expected).absolute()


@pytest.mark.parametrize("location", ["", "file://", "s3://bucket/a", "memory://a"])
def test_other_places_are_refused(location):
    with pytest.raises(StorageError):
        locations.local_path(location)


@pytest.mark.parametrize("version", [2, 3])
def test_text_that_claims_more_items_than_it_has_bytes_takes_no_memory(tmp_path, version):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        path, shape=(3,), chunks=(3,), dtype=np.dtypes.StringDType(), zarr_format=version,
        compressors=None,
    )  # fmt: skip
    array[:] = np.array(["a", "ß", ""], np.dtypes.StringDType())
    source = ForeignZarr(path)
    assert source.read("a", 0, 3).tolist() == ["a", "ß", ""]
    chunk = path / ("c/0" if version == 3 else "0")
    chunk.write_bytes((1 << 28).to_bytes(4, "little") + chunk.read_bytes()[4:])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="claims to hold 268435456 texts in 19 bytes"):
            source.read("a", 0, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
