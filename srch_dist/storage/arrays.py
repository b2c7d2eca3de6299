"""Zarr arrays in chunks of rows: create, read, write, and detect damage.

Each chunk ends with a crc32c, which detects a damaged chunk. In addition, callers record the
`checksum` of consecutive rows: a crc32 of the values. The `checksum` also detects an intact chunk
that is stale or misplaced.
"""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from srch_dist.errors import StorageError, StorageUnavailableError, is_outage
from srch_dist.kernels.types import Array
from srch_dist.storage import _text_codec  # noqa: F401  (patches the codec of text)
from srch_dist.storage._direct_reads import read_plain
from srch_dist.storage._object_chunks import create_metadata, read_chunks, write_chunks
from srch_dist.storage._zarr_stores import chunk_file, first_of_rows, zarr_store
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, S3Path, locate, writing
from srch_dist.storage.s3 import is_answer

_ALL = slice(None)
# Codecs that this package writes. Others are refused: some expand a few bytes into all memory.
_CODECS = ("bytes", "vlen-utf8", "crc32c")

# Maximum number of chunks that together hold one row. An array with more of them is hostile.
_CHUNKS_ACROSS = 1 << 13


def create_array(
    path: str | Location,
    shape: tuple[int, ...],
    chunk_rows: int,
    dtype: Any,
    attributes: Mapping[str, Any] | None = None,
    chunk_columns: int | None = None,
) -> None:
    """Create an empty array in chunks of rows; each chunk has a crc32c.

    Parameters
    ----------
    chunk_rows : number of rows per chunk.
    attributes : JSON values to store with the array.
    chunk_columns : for a matrix, the number of columns per chunk; default: all columns.

    Raises
    ------
    StorageError : the location cannot be written.
    """
    path = locate(path)
    create = partial(
        zarr.create_array,
        shape=shape,
        chunks=_chunk_shape(shape, chunk_rows, chunk_columns),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        attributes=dict(attributes or {}),
        zarr_format=3,
        overwrite=False,
    )
    with writing(path):
        if isinstance(path, S3Path):
            create_metadata(path, create)
        else:
            create(zarr_store(path))


def ensure_array(
    path: str | Location,
    shape: tuple[int, ...],
    chunk_rows: int,
    dtype: Any,
    chunk_columns: int | None = None,
) -> bool:
    """Create an array, unless an array of this shape, dtype and chunk shape exists.

    An array that differs is replaced. Returns True if an equal array exists. An earlier attempt may
    have written some or all of its chunks.
    """
    if locate(path).exists():
        try:
            array = open_array(path)
            chunks = _chunk_shape(shape, chunk_rows, chunk_columns)
            if (array.shape, array.chunks, array.dtype) == (shape, chunks, np.dtype(dtype)):
                return True
        except StorageUnavailableError:
            raise
        except StorageError:
            pass  # the attempt ended before it wrote the metadata
        remove(path)
    create_array(path, shape, chunk_rows, dtype, chunk_columns=chunk_columns)
    return False


def create_chunk(path: str | Location, values: Array) -> int:
    """Write ``values`` as an array of one chunk, replacing any old array; return the `checksum`."""
    if isinstance(locate(path), Path):  # in an object store, the two new objects replace the old
        remove(path)
    create_array(path, values.shape, max(1, len(values)), values.dtype)
    return write_rows(path, 0, values) if values.size else checksum(values)


def open_array(path: str | Location, whole: bool = False) -> zarr.Array[Any]:
    """Open an array of this package for reading or writing rows.

    Parameters
    ----------
    whole : True if every chunk is written and the array is only read. In an object store, reading
        an absent chunk then raises LostChunkError.

    Raises
    ------
    StorageError : the array is absent or damaged, has codecs that this package does not write, or
        holds Python objects.
    """
    path = locate(path)
    try:
        array = zarr.open_array(zarr_store(path, whole), mode="r+", zarr_format=3)
        chunks = array.chunks
    except Exception as error:  # Zarr raises many kinds over damaged metadata
        raise storage_error("open the Zarr array", path, error) from None
    if min(chunks, default=1) < 1:
        raise StorageError(
            f"cannot open the Zarr array {path}: its chunk shape is {chunks}, expected at least 1 "
            "along every axis"
        )
    metadata: Any = array.metadata.to_dict()
    codecs = [codec["name"] for codec in metadata["codecs"]]
    if not set(codecs) <= set(_CODECS) or array.dtype.kind == "O":
        raise StorageError(
            f"{path} holds {array.dtype} with the codecs {', '.join(codecs)}, expected numbers or "
            f"text with {', '.join(_CODECS)}; write the array again"
        )
    # Chunks of fill values are written too, so an absent chunk has been lost.
    return array.with_config({"write_empty_chunks": True})


def read_rows(
    path: str | Location, start: int = 0, stop: int | None = None, columns: slice = _ALL
) -> Array:
    """Read rows ``start`` to ``stop`` - 1 (default: all); of a matrix, only the given ``columns``.

    Raises
    ------
    StorageError : a chunk is missing, has a wrong size, or does not match its crc32c. The message
        names the array, the chunk and its file.
    """
    path = locate(path)
    return read_opened(path, open_array(path, whole=True), start, stop, columns)


def reader(path: str | Location) -> Callable[[int, int], Array]:
    """Open an array once; return a function (start, stop) that reads rows start to stop - 1."""
    place = locate(path)
    return partial(read_opened, place, open_array(place, whole=True))


def read_opened(
    path: Location,
    array: zarr.Array[Any],
    start: int = 0,
    stop: int | None = None,
    columns: slice = _ALL,
) -> Array:
    """Read rows as `read_rows` does, from an array that `open_array` opened with ``whole``."""
    stop = array.shape[0] if stop is None else stop
    if isinstance(path, S3Path):
        values = read_chunks(path, array, start, stop, columns)
        if values is not None:
            return values
    for place in _places(array, path, start, stop, columns):
        _check_chunk(array, path, place)
    try:
        if isinstance(path, Path):
            values = read_plain(path, array, start, stop, columns)
            if values is not None:
                return values
        rows = slice(start, stop)
        return np.asarray(array[rows if columns == _ALL else (rows, columns)])
    except Exception as error:  # Zarr raises many kinds over damaged chunks
        if not is_outage(error) and (isinstance(path, Path) or not is_answer(error)):
            _name_damage(array, path, _places(array, path, start, stop, columns))
        raise storage_error(f"read rows {start} to {stop - 1} of", path, error) from None


def read_selected(
    path: str | Location,
    rows: NDArray[np.int64],
    read: Callable[[int, int], Array] | None = None,
) -> Array:
    """Read the rows with the ascending numbers ``rows`` (m,), one chunk at a time.

    ``read`` (start, stop) reads rows start to stop - 1 of the array; default: `read_rows`.
    """
    read = read or partial(read_rows, path)
    array = open_array(path)
    step = array.chunks[0]
    cuts = np.searchsorted(rows, np.arange(0, array.shape[0] + step, step))
    parts = []
    for chunk in np.flatnonzero(np.diff(cuts)):
        wanted = rows[cuts[chunk] : cuts[chunk + 1]]
        first, last = int(wanted[0]), int(wanted[-1])
        parts.append(read(first, last + 1)[wanted - first])
    return np.concatenate(parts) if parts else read_rows(path, 0, 0)


def read_scattered(
    path: str | Location,
    rows: NDArray[np.int64],
    read: Callable[[int, int], Array] | None = None,
) -> Array:
    """Read rows as `read_selected` does; ``rows`` can be in any order and repeat."""
    wanted, places = np.unique(rows, return_inverse=True)
    selected: Array = read_selected(path, wanted, read)[places]
    return selected


def write_rows(path: str | Location, start: int, values: Array, columns: slice = _ALL) -> int:
    """Write ``values`` as whole chunks, from row ``start`` on; return their `checksum`."""
    path = locate(path)
    array = open_array(path)
    rows = slice(start, start + len(values))
    with writing(path):
        if not (isinstance(path, S3Path) and write_chunks(path, array, start, values, columns)):
            array[rows if columns == _ALL else (rows, columns)] = values
    return checksum(values)


def update_attributes(path: Location, values: Mapping[str, Any]) -> None:
    """Set attributes of an array; its other attributes stay."""
    array = open_array(path)
    with writing(path):
        array.attrs.update(dict(values))


def checksum(values: Array, before: int = 0) -> int:
    """Compute the crc32 of an array's bytes in C order and native byte order.

    Text of variable length is encoded as UTF-8; a zero byte ends each text.

    Parameters
    ----------
    before : checksum of the preceding rows; the result then covers those rows, too.
    """
    if values.dtype.kind == "T":
        return zlib.crc32("".join(f"{text}\0" for text in values.ravel()).encode(), before)
    if not values.dtype.isnative:  # Zarr returns native values
        values = values.astype(values.dtype.newbyteorder("="))
    values = np.ascontiguousarray(values)
    # Numbers are read in place: a copy would add the size of a task's rows to its memory.
    if values.dtype.kind in "biuf":
        return zlib.crc32(values.reshape(-1).view(np.uint8).data, before)
    return zlib.crc32(values.tobytes(), before)


def missing_chunks(path: str | Location) -> int:
    """Count the chunks of an array that were never written."""
    path = locate(path)
    array = open_array(path)
    count = math.prod(
        -(-size // step) for size, step in zip(array.shape, array.chunks, strict=True)
    )
    if isinstance(path, Path):
        files = sum(file.is_file() for file in (path / "c").rglob("*"))
    else:
        files = sum(1 for _ in (path / "c").files())
    # nchunks_initialized lists every chunk that the metadata claims: too many for a hostile array.
    return count - files if count > files else count - int(array.nchunks_initialized)


def remove(path: str | Location) -> None:
    """Remove an array, group or folder, if it exists."""
    if isinstance(path, S3Path):
        path.remove()
    else:
        shutil.rmtree(path, ignore_errors=True)


def verify_rows(path: str | Location, start: int, stop: int | None, expected: int) -> None:
    """Verify rows ``start`` to ``stop`` - 1 (None: to the end) against the `checksum` ``expected``.

    Raises
    ------
    StorageError : the `checksum` of the rows differs from ``expected``. This detects stale chunks,
        which match their own crc32c.
    """
    verify_values(locate(path), start, read_rows(path, start, stop), expected)


def verify_values(path: Location, start: int, values: Array, expected: int) -> None:
    """Verify ``values``, read from row ``start`` on, against the `checksum` ``expected``."""
    if checksum(values) != expected:
        array = open_array(path)
        place = first_of_rows(array, start // array.chunks[0])
        raise StorageError(
            f"{path}: rows {start} to {start + len(values) - 1} do not match their recorded "
            f"checksum; a chunk is stale or was exchanged ({chunk_file(path, array, place)}); "
            "write the array again"
        )


def _chunk_shape(
    shape: tuple[int, ...], chunk_rows: int, chunk_columns: int | None
) -> tuple[int, ...]:
    columns = shape[1:] if chunk_columns is None else (min(chunk_columns, shape[1]),)
    return (max(1, min(chunk_rows, shape[0])), *columns)


def _places(
    array: zarr.Array[Any], path: Location, start: int, stop: int, columns: slice
) -> Iterator[tuple[int, ...]]:
    """Yield the index of each chunk that has values in rows start to stop - 1 of ``columns``."""
    rows = array.chunks[0]
    if (
        math.prod(
            -(-size // step) for size, step in zip(array.shape[1:], array.chunks[1:], strict=True)
        )
        > _CHUNKS_ACROSS
    ):
        raise StorageError(
            f"{path} has shape {array.shape} in chunks {array.chunks}, expected at most "
            f"{_CHUNKS_ACROSS} chunks across the columns; write the array again"
        )
    across: list[range] = []
    for size, step in zip(array.shape[1:], array.chunks[1:], strict=True):
        low, high, _ = columns.indices(size)
        across.append(range(low // step, -(-high // step)))
    for chunk in range(start // rows, -(-min(stop, array.shape[0]) // rows)):
        yield from product((chunk,), *across)


def _check_chunk(array: zarr.Array[Any], path: Location, place: tuple[int, ...]) -> None:
    """Raise StorageError if a chunk's file is absent or has a wrong size; do not read the file."""
    file = chunk_file(path, array, place)
    first = place[0] * array.chunks[0]
    size = _size(file)
    if size is None:
        raise StorageError(
            f"{path}: the chunk with row {first} is missing ({file}); write the array again"
        )
    # Numbers are stored as in memory, with a crc32c of four bytes; text has any length.
    expected = math.prod(array.chunks) * array.dtype.itemsize + 4
    if size == 0 or (array.dtype.kind in "biuf" and size != expected):
        raise StorageError(
            f"{path}: the chunk with row {first} has {size} bytes instead of {expected} ({file}); "
            "write the array again"
        )


def _size(file: Location) -> int | None:
    if isinstance(file, S3Path):
        return file.size()
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error("read", file, error) from None


def _name_damage(array: zarr.Array[Any], path: Location, places: Iterator[tuple[int, ...]]) -> None:
    """Read chunks one by one; the StorageError names row and file of the first damaged chunk."""
    for place in places:
        try:
            array.get_block_selection(place)
        except Exception as error:
            first = place[0] * array.chunks[0]
            raise StorageError(
                f"{path}: the chunk with row {first} is damaged "
                f"({chunk_file(path, array, place)}): {error}; write the array again"
            ) from None
