"""Codes on disk: rows are verified against the checksums that `encode` recorded."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from srch_dist.errors import StorageError
from srch_dist.storage import arrays, code_store
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.recorded_runs import record_checksums
from tests.helpers.runs import exchange_chunk

ROWS, STEP = 40, 8


def write_codes(path, seed: int) -> np.ndarray:
    """Write codes as `encode` does, 8 rows per task."""
    values = np.random.default_rng(seed).integers(0, 256, (ROWS, 3), np.uint8)
    arrays.create_array(path, values.shape, STEP, np.uint8)
    sums = [arrays.write_rows(path, row, values[row : row + STEP]) for row in range(0, ROWS, STEP)]
    record_checksums(path, STEP, sums)
    return values


@pytest.fixture
def pair(tmp_path):
    """Two encodings of the same shape, and the values of the first."""
    values = write_codes(tmp_path / "a.zarr", 0)
    write_codes(tmp_path / "b.zarr", 1)
    return tmp_path / "a.zarr", tmp_path / "b.zarr", values


def test_intact_codes_are_read_as_written(pair, monkeypatch):
    monkeypatch.setattr(code_store, "_RUN_BYTES", 60)
    path, _, values = pair
    codes = open_codes(path)
    np.testing.assert_array_equal(codes.read(5, 21), values[5:21])
    np.testing.assert_array_equal(codes.read_scattered(np.array([39, 0, 39])), values[[39, 0, 39]])
    np.testing.assert_array_equal(np.concatenate([run for _, run in codes.runs()]), values)
    np.testing.assert_array_equal(codes.hold().read(0, ROWS), values)


def test_chunk_of_another_encoding_is_refused_where_its_rows_are_read(pair):
    path, other, values = pair
    exchange_chunk(path, other)
    codes = open_codes(path)
    for read in (
        lambda: codes.read(7, 9),
        lambda: codes.read_scattered(np.array([30, 12])),
        lambda: list(codes.runs()),
        codes.hold,
    ):
        with pytest.raises(StorageError, match=r"rows 8 to 15 do not match .*a\.zarr/c/1/0"):
            read()
    np.testing.assert_array_equal(codes.read(16, ROWS), values[16:])


def test_codes_without_checksums_are_read(pair):
    """Earlier versions and other writers record none."""
    path, _, values = pair
    array = zarr.open_array(path, mode="r+")
    array.attrs.clear()
    np.testing.assert_array_equal(open_codes(path).read(0, ROWS), values)


@pytest.mark.parametrize(
    "attributes",
    [
        {"checksum_rows": 0},
        {"checksum_rows": "8"},
        {"checksum_rows": 7},
        {"checksums": 5},
        {"checksums": [1, 2, 3, 4, "x"]},
    ],
)
def test_damaged_checksums_are_refused(pair, attributes):
    zarr.open_array(pair[0], mode="r+").attrs.update(attributes)
    with pytest.raises(StorageError, match=r"a\.zarr: its recorded checksums are damaged"):
        open_codes(pair[0])
