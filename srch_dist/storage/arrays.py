"""Zarr arrays in row chunks: how they are made, read and written, and how damage is noticed."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from srch_dist.errors import StorageError

Array = NDArray[Any]
_ALL = slice(None)


def local_path(location: str | Path) -> Path:
    """The local path of a store given by path or ``file://`` URL."""
    text = str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise StorageError(f"{location}: only local paths and file:// are supported")
    if not text:
        raise StorageError("an empty path was given for a store")
    # Workers have working directories of their own.
    return Path(text).absolute()


def create_array(
    path: str | Path,
    shape: tuple[int, ...],
    chunk_rows: int,
    dtype: Any,
    attributes: Mapping[str, Any] | None = None,
    chunk_columns: int | None = None,
) -> None:
    """Make an empty array of row chunks with a crc32c checksum on each.

    ``chunk_columns`` cuts the chunks of a matrix by columns too.
    """
    columns = shape[1:] if chunk_columns is None else (min(chunk_columns, shape[1]),)
    zarr.create_array(
        str(path),
        shape=shape,
        chunks=(max(1, min(chunk_rows, shape[0])), *columns),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        attributes=dict(attributes or {}),
        zarr_format=3,
        overwrite=False,
    )


def create_chunk(path: str | Path, values: Array) -> None:
    """Write a whole array as one chunk, replacing what an earlier try left."""
    remove(path)
    create_array(path, values.shape, max(1, len(values)), values.dtype)
    if values.size:
        write_rows(path, 0, values)


def open_array(path: str | Path) -> zarr.Array[Any]:
    """Open an array for reading or writing rows."""
    try:
        array = zarr.open_array(str(path), mode="r+", zarr_format=3)
    except Exception as error:  # zarr raises many kinds here, none of them for users
        raise StorageError(f"cannot open the Zarr array {path}: {error}") from None
    # A chunk of fill values is written like any other, so an absent one is a lost one.
    return array.with_config({"write_empty_chunks": True})


def read_rows(
    path: str | Path, start: int = 0, stop: int | None = None, columns: slice = _ALL
) -> Array:
    """Rows ``start`` … ``stop`` - 1 (all by default); a missing chunk is an error, not zeros."""
    array = open_array(path)
    stop = array.shape[0] if stop is None else stop
    lost = _first_missing(array, Path(path), start, stop, columns)
    if lost is not None:
        raise StorageError(f"{path}: the chunk with row {lost} is missing; make the array again")
    try:
        rows = slice(start, stop)
        return np.asarray(array[rows if columns == _ALL else (rows, columns)])
    except Exception as error:
        raise StorageError(f"cannot read rows {start} to {stop - 1} of {path}: {error}") from None


def read_selected(path: str | Path, rows: NDArray[np.int64]) -> Array:
    """The rows numbered ``rows`` (m,), ascending, reading one chunk at a time."""
    array = open_array(path)
    step = array.chunks[0]
    cuts = np.searchsorted(rows, np.arange(0, array.shape[0] + step, step))
    parts = []
    for chunk in np.flatnonzero(np.diff(cuts)):
        wanted = rows[cuts[chunk] : cuts[chunk + 1]]
        first, last = int(wanted[0]), int(wanted[-1])
        parts.append(read_rows(path, first, last + 1)[wanted - first])
    return np.concatenate(parts) if parts else read_rows(path, 0, 0)


def read_scattered(path: str | Path, rows: NDArray[np.int64]) -> Array:
    """The rows numbered ``rows`` (m,), in their order; a number may stand there several times."""
    wanted, places = np.unique(rows, return_inverse=True)
    selected: Array = read_selected(path, wanted)[places]
    return selected


def write_rows(path: str | Path, start: int, values: Array, columns: slice = _ALL) -> int:
    """Write whole chunks from row ``start`` and return the crc32 of the values."""
    array = open_array(path)
    rows = slice(start, start + len(values))
    try:
        array[rows if columns == _ALL else (rows, columns)] = values
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from None
    return checksum(values)


def checksum(values: Array, before: int = 0) -> int:
    """crc32 of an array's bytes in C order, going on from that of the rows ``before``.

    Of text of any length, the bytes are those of UTF-8, each text ended by a zero.
    """
    if values.dtype.kind == "T":
        return zlib.crc32("".join(f"{text}\0" for text in values.ravel()).encode(), before)
    return zlib.crc32(np.ascontiguousarray(values).tobytes(), before)


def missing_chunks(path: str | Path) -> int:
    """How many chunks of an array were never written."""
    array = open_array(path)
    return int(array.nchunks) - int(array.nchunks_initialized)


def remove(path: str | Path) -> None:
    """Delete an array, group or folder if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def _first_missing(
    array: zarr.Array[Any], path: Path, start: int, stop: int, columns: slice
) -> int | None:
    """First row of the first chunk that is not there among those of the rows and columns."""
    rows = array.chunks[0]
    across: list[range] = []
    for size, step in zip(array.shape[1:], array.chunks[1:], strict=True):
        low, high, _ = columns.indices(size)
        across.append(range(low // step, -(-high // step)))
    for chunk in range(start // rows, -(-min(stop, array.shape[0]) // rows)):
        for place in product((chunk,), *across):
            if not (path / array.metadata.encode_chunk_key(place)).exists():
                return chunk * rows
    return None
