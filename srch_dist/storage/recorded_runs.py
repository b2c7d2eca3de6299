"""Read rows, and verify the checksums that were recorded when the rows were written.

A run is a block of consecutive rows that was written at once, usually one chunk. The crc32 of a run
detects a chunk that is intact but stale, misplaced or from another array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import zarr

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Array, IntArray
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location

# Attributes of an array: the crc32 of each block of rows, and the rows per block.
_CHECKSUMS, _CHECKSUM_ROWS = "checksums", "checksum_rows"
# Attribute of an array that grew: first row, end row and crc32 of each block of rows.
RUNS = "runs"


def parse_runs(path: Location, rows: int, records: Iterable[Iterable[int]]) -> IntArray:
    """Return first row, end row and `arrays.checksum` of the r runs of an array, as (r, 3).

    The end row is not part of the run.

    Parameters
    ----------
    path : the array, for messages.
    rows : number of rows of the array.
    records : the stored runs; empty if none were recorded.

    Raises
    ------
    StorageError : the runs do not cover all rows in order.
    """
    try:
        runs: IntArray = np.array([list(run) for run in records], np.int64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise StorageError(f"{path}: its recorded checksums are damaged ({error!r})") from None
    starts, stops = runs[:, 0], runs[:, 1]
    if len(runs) and not (
        np.array_equal(starts, [0, *stops[:-1]]) and (starts < stops).all() and stops[-1] == rows
    ):
        raise StorageError(
            f"{path}: its recorded checksums are damaged: they do not cover rows 0 to {rows - 1} "
            "in order; write the array again"
        )
    return runs


def read_verified(
    path: Location,
    runs: IntArray,
    start: int,
    stop: int,
    read: Callable[[int, int], Array] | None = None,
) -> Array:
    """Read rows ``start`` to ``stop`` - 1, and verify every run that holds one of these rows.

    Every such run is read completely. If a run is one chunk, its verification reads no additional
    bytes, because Zarr always reads complete chunks.

    Parameters
    ----------
    runs : runs of the array, as `parse_runs` returns them; if empty, nothing is verified.
    read : function (start, stop) that reads rows of the array; default: `arrays.read_rows`.

    Raises
    ------
    StorageError : a run does not match its checksum, or a chunk is damaged.
    """
    read = read or partial(arrays.read_rows, path)
    first_run = np.searchsorted(runs[:, 1], start, side="right")
    touched = runs[first_run : np.searchsorted(runs[:, 0], stop)].tolist()
    if not touched:
        return read(start, stop)
    first = touched[0][0]
    values = read(first, touched[-1][1])
    for low, high, expected in touched:
        arrays.verify_values(path, low, values[low - first : high - first], expected)
    return values[start - first : stop - first]


def record_checksums(path: Location, rows: int, checksums: Sequence[int]) -> None:
    """Store the `arrays.checksum` of each block of ``rows`` rows as an attribute of the array."""
    arrays.update_attributes(path, {_CHECKSUMS: list(checksums), _CHECKSUM_ROWS: rows})


def recorded_runs(path: Location, array: zarr.Array[Any]) -> IntArray:
    """Return the runs (r, 3) that `record_checksums` stored; (0, 3) if it stored none.

    Raises
    ------
    StorageError : the attributes are damaged.
    """
    runs: Any = array.attrs.get(RUNS)
    if runs is not None:
        return parse_runs(path, array.shape[0], runs)
    checksums: Any = array.attrs.get(_CHECKSUMS, [])
    step: Any = array.attrs.get(_CHECKSUM_ROWS)
    if not checksums:
        return parse_runs(path, array.shape[0], ())
    try:
        starts = range(0, array.shape[0], step)
        blocks = zip(starts, checksums, strict=True)
        records = [(start, min(start + step, array.shape[0]), value) for start, value in blocks]
    except (IndexError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: its recorded checksums are damaged ({error!r})") from None
    return parse_runs(path, array.shape[0], records)
