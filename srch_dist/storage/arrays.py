"""Zarr arrays in row chunks: how they are made, read and written, and how damage is noticed."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from srch_dist.errors import StorageError

Array = NDArray[Any]


def local_path(location: str | Path) -> Path:
    """The local path of a store given by path or ``file://`` URL."""
    text = str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise StorageError(f"{location}: only local paths and file:// are supported")
    if not text:
        raise StorageError("an empty path was given for a store")
    return Path(text)


def create_array(
    path: str | Path,
    shape: tuple[int, ...],
    chunk_rows: int,
    dtype: Any,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Make an empty array of row chunks with a crc32c checksum on each.

    A chunk that was never written reads as the fill value: NaN, or the least integer, where the
    dtype has one, so that `read_rows` can tell.
    """
    zarr.create_array(
        str(path),
        shape=shape,
        chunks=(max(1, min(chunk_rows, shape[0])), *shape[1:]),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        fill_value=_fill_value(dtype),
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
    return array


def read_rows(
    path: str | Path, start: int = 0, stop: int | None = None, guard: bool = True
) -> Array:
    """Rows ``start`` … ``stop`` - 1 (all by default) of an array.

    With ``guard`` a chunk that is missing is an error; without, the fill value is data.
    """
    array = open_array(path)
    stop = array.shape[0] if stop is None else stop
    try:
        values = np.asarray(array[start:stop])
    except Exception as error:
        raise StorageError(f"cannot read rows {start} to {stop - 1} of {path}: {error}") from None
    lost = _never_written(values, array.fill_value) if guard else None
    if lost is not None:
        raise StorageError(f"{path}: the chunk with row {start + lost} is missing; make it again")
    return values


def write_rows(path: str | Path, start: int, values: Array) -> int:
    """Write whole chunks from row ``start`` and return the crc32 of the values."""
    array = open_array(path)
    try:
        array[start : start + len(values)] = values
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from None
    return checksum(values)


def checksum(values: Array) -> int:
    """crc32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def missing_chunks(path: str | Path) -> int:
    """How many chunks of an array were never written."""
    array = open_array(path)
    return int(array.nchunks) - int(array.nchunks_initialized)


def remove(path: str | Path) -> None:
    """Delete an array, group or folder if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def _fill_value(dtype: Any) -> Any:
    kind = np.dtype(dtype).kind
    if kind == "i":
        return int(np.iinfo(dtype).min)
    return {"f": np.nan, "T": "", "U": ""}.get(kind, 0)


def _never_written(values: Array, fill: Any) -> int | None:
    """Position of the first row that reads as the fill value in its first entry, if that tells."""
    if values.dtype.kind not in "fi" or not values.size:
        return None
    first = values.reshape(len(values), -1)[:, 0]
    hits = np.flatnonzero(np.isnan(first) if values.dtype.kind == "f" else first == fill)
    return int(hits[0]) if len(hits) else None
