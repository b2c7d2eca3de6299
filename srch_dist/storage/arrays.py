"""Zarr arrays in row chunks: how they are made, read and written, and how damage is noticed."""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Iterator, Mapping
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
# What this package writes. No other codec is run: one may unfold a few bytes into all memory.
_CODECS = ("bytes", "vlen-utf8", "crc32c")

# Chunks beside each other that an array may have: one a column, and then some.
_ACROSS = 1 << 13


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
    try:
        zarr.create_array(
            str(path),
            shape=shape,
            chunks=_chunk_shape(shape, chunk_rows, chunk_columns),
            dtype=dtype,
            compressors=[Crc32cCodec()],
            attributes=dict(attributes or {}),
            zarr_format=3,
            overwrite=False,
        )
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def ensure_array(
    path: str | Path,
    shape: tuple[int, ...],
    chunk_rows: int,
    dtype: Any,
    chunk_columns: int | None = None,
) -> bool:
    """`create_array`, unless an earlier try has left the same array, whose chunks may be whole.

    Returns whether it was there.
    """
    if Path(path).exists():
        try:
            array = open_array(path)
            chunks = _chunk_shape(shape, chunk_rows, chunk_columns)
            if (array.shape, array.chunks, array.dtype) == (shape, chunks, np.dtype(dtype)):
                return True
        except StorageError:
            pass  # not even its metadata were finished
        remove(path)
    create_array(path, shape, chunk_rows, dtype, chunk_columns=chunk_columns)
    return False


def create_chunk(path: str | Path, values: Array) -> int:
    """Write a whole array as one chunk, replacing what an earlier try left; its `checksum`."""
    remove(path)
    create_array(path, values.shape, max(1, len(values)), values.dtype)
    return write_rows(path, 0, values) if values.size else checksum(values)


def open_array(path: str | Path) -> zarr.Array[Any]:
    """Open an array for reading or writing rows."""
    try:
        array = zarr.open_array(str(path), mode="r+", zarr_format=3)
    except Exception as error:  # zarr raises many kinds here, none of them for users
        raise StorageError(f"cannot open the Zarr array {path}: {error}") from None
    metadata: Any = array.metadata.to_dict()
    codecs = [codec["name"] for codec in metadata["codecs"]]
    if not set(codecs) <= set(_CODECS) or array.dtype.kind == "O":
        raise StorageError(
            f"{path} holds {array.dtype} through the codecs {', '.join(codecs)}; this package "
            f"writes and reads {', '.join(_CODECS)} of numbers and text only"
        )
    # A chunk of fill values is written like any other, so an absent one is a lost one.
    return array.with_config({"write_empty_chunks": True})


def read_rows(
    path: str | Path, start: int = 0, stop: int | None = None, columns: slice = _ALL
) -> Array:
    """Rows ``start`` … ``stop`` - 1 (all by default).

    Raises
    ------
    StorageError : a chunk is missing, of another size, or does not match its checksum; with the
        array, the chunk and its file.
    """
    array = open_array(path)
    stop = array.shape[0] if stop is None else stop
    for place in _places(array, Path(path), start, stop, columns):
        _check_chunk(array, Path(path), place)
    try:
        rows = slice(start, stop)
        return np.asarray(array[rows if columns == _ALL else (rows, columns)])
    except Exception as error:  # zarr raises many kinds here, none of them for users
        _name_damage(array, Path(path), _places(array, Path(path), start, stop, columns))
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
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    return checksum(values)


def checksum(values: Array, before: int = 0) -> int:
    """crc32 of an array's bytes in C order, going on from that of the rows ``before``.

    Of text of any length, the bytes are those of UTF-8, each text ended by a zero.
    """
    if values.dtype.kind == "T":
        return zlib.crc32("".join(f"{text}\0" for text in values.ravel()).encode(), before)
    if not values.dtype.isnative:  # as they are read back
        values = values.astype(values.dtype.newbyteorder("="))
    return zlib.crc32(np.ascontiguousarray(values).tobytes(), before)


def missing_chunks(path: str | Path) -> int:
    """How many chunks of an array were never written."""
    array = open_array(path)
    count = math.prod(
        -(-size // step) for size, step in zip(array.shape, array.chunks, strict=True)
    )
    files = sum(file.is_file() for file in Path(path, "c").rglob("*"))
    # Zarr makes a list of all chunks that the metadata claim.
    return count - files if count > files else count - int(array.nchunks_initialized)


def remove(path: str | Path) -> None:
    """Delete an array, group or folder if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def verify_rows(path: str | Path, start: int, stop: int | None, expected: int) -> None:
    """Hold rows ``start`` … ``stop`` - 1 against the `checksum` that they were written with.

    Raises
    ------
    StorageError : they are not what was written, even where each chunk matches its own checksum.
    """
    if checksum(read_rows(path, start, stop)) != expected:
        array = open_array(path)
        place = (start // array.chunks[0], *(0 for _ in array.shape[1:]))
        raise StorageError(
            f"{path}: the rows from {start} on are not those that were recorded; their chunk is "
            f"stale or was exchanged ({_file(array, Path(path), place)})"
        )


def _chunk_shape(
    shape: tuple[int, ...], chunk_rows: int, chunk_columns: int | None
) -> tuple[int, ...]:
    columns = shape[1:] if chunk_columns is None else (min(chunk_columns, shape[1]),)
    return (max(1, min(chunk_rows, shape[0])), *columns)


def _places(
    array: zarr.Array[Any], path: Path, start: int, stop: int, columns: slice
) -> Iterator[tuple[int, ...]]:
    """Where the chunks of the rows and columns lie in the grid of chunks."""
    rows = array.chunks[0]
    if (
        math.prod(
            -(-size // step) for size, step in zip(array.shape[1:], array.chunks[1:], strict=True)
        )
        > _ACROSS
    ):
        raise StorageError(f"{path} of shape {array.shape} claims chunks of {array.chunks}")
    across: list[range] = []
    for size, step in zip(array.shape[1:], array.chunks[1:], strict=True):
        low, high, _ = columns.indices(size)
        across.append(range(low // step, -(-high // step)))
    for chunk in range(start // rows, -(-min(stop, array.shape[0]) // rows)):
        yield from product((chunk,), *across)


def _file(array: zarr.Array[Any], path: Path, place: tuple[int, ...]) -> Path:
    return path / array.metadata.encode_chunk_key(place)


def _check_chunk(array: zarr.Array[Any], path: Path, place: tuple[int, ...]) -> None:
    """Refuse a chunk that is not there or not of its size, before memory is set aside for it."""
    file = _file(array, path, place)
    first = place[0] * array.chunks[0]
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise StorageError(
            f"{path}: the chunk with row {first} is missing ({file}); make the array again"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}") from None
    # Text is of any length; numbers are as they lie in memory, with a crc32c of four bytes.
    expected = math.prod(array.chunks) * array.dtype.itemsize + 4
    if size == 0 or (array.dtype.kind in "biuf" and size != expected):
        raise StorageError(
            f"{path}: the chunk with row {first} has {size} bytes instead of {expected} ({file}); "
            "make the array again"
        )


def _name_damage(array: zarr.Array[Any], path: Path, places: Iterator[tuple[int, ...]]) -> None:
    """Raise for the first chunk that cannot be read on its own."""
    for place in places:
        try:
            array.get_block_selection(place)
        except Exception as error:
            first = place[0] * array.chunks[0]
            raise StorageError(
                f"{path}: the chunk with row {first} is damaged ({_file(array, path, place)}): "
                f"{error}; make the array again"
            ) from None
