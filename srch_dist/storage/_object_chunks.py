"""Read and write whole chunks of numeric arrays in an object store, one request per chunk.

Zarr would ask for the size of an object first, and upload it in parts of 5 MiB. Zarr reads and
writes the arrays that are not plain, such as text. It also reads damaged chunks, and reports the
damage.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import zarr
from zarr.storage import MemoryStore

from srch_dist.kernels.types import Array
from srch_dist.storage._plain_chunks import CRC_BYTES, chunk_values, crc_of, is_plain
from srch_dist.storage._zarr_stores import chunk_file
from srch_dist.storage.locations import S3Path
from srch_dist.storage.object_cache import forget, read_object

# Requests of one process at the same time, and bytes of their answers, which are in memory.
_REQUESTS, _AHEAD_BYTES = 8, 32 << 20

S = TypeVar("S")
T = TypeVar("T")


def in_parallel(call: Callable[[S], T], items: Iterable[S], size: int) -> Iterator[T]:
    """Yield ``call(item)`` for each item in order; several calls run at the same time.

    ``size`` is the number of bytes of a result. Large results are computed one after the other.
    """
    rest = iter(items)
    count = max(1, min(_REQUESTS, _AHEAD_BYTES // max(1, size)))
    first = list(islice(rest, count))
    if count == 1 or len(first) < 2:
        yield from map(call, chain(first, rest))
        return
    with ThreadPoolExecutor(count) as threads:
        waiting = deque(threads.submit(call, item) for item in first)
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(threads.submit(call, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def create_metadata(path: S3Path, create: Callable[[Any], zarr.Array[Any]]) -> zarr.Array[Any]:
    """Write the metadata of a new array in one request.

    ``create`` creates the array in the Zarr store that it gets. Returns that array, whose metadata
    are in memory alone.
    """
    documents: dict[str, Any] = {}
    array = create(MemoryStore(documents))
    (path / "zarr.json").write_bytes(documents["zarr.json"].to_bytes())
    return array


def read_chunks(
    path: S3Path, array: zarr.Array[Any], start: int, stop: int, columns: slice
) -> Array | None:
    """Read rows ``start`` to ``stop`` - 1 of ``columns`` of the array at ``path``.

    Returns None if the array is not plain (see `is_plain`), or if a chunk is absent or damaged.
    """
    stop = min(stop, array.shape[0])
    if start >= stop or not is_plain(array):
        return None
    low, high, step = columns.indices(array.shape[1]) if array.ndim == 2 else (0, 1, 1)
    if step != 1 or low >= high:
        return None
    shape = (stop - start, *((high - low,) if array.ndim == 2 else array.shape[1:]))
    places = list(_grid(array, (start, stop), (low, high)))
    parts = in_parallel(lambda place: _read_chunk(path, array, place), places, _size(array))
    values = None
    for (row, *across), part in zip(places, parts, strict=True):
        if part is None:
            return None
        if values is None:
            values = np.empty(shape, dtype=array.dtype)
        _copy(values, (start, low), part, (row * array.chunks[0], _first(array, across)))
    return values


def write_chunks(
    path: S3Path, array: zarr.Array[Any], start: int, values: Array, columns: slice
) -> bool:
    """Write ``values`` from row ``start`` to ``columns``; return False if nothing was written.

    Nothing is written if the array is not plain, or if ``values`` are not whole chunks.
    """
    low, high, step = columns.indices(array.shape[1]) if array.ndim == 2 else (0, 1, 1)
    ends = [(start, start + len(values), 0)]
    ends += [(low, high, 1)] if array.ndim == 2 else []
    whole = all(
        first % array.chunks[axis] == 0
        and (end % array.chunks[axis] == 0 or end == array.shape[axis])
        for first, end, axis in ends
    )
    if not (whole and step == 1 and len(values) and is_plain(array)):
        return False

    def write(place: tuple[int, ...]) -> None:
        chunk = values
        if values.shape != array.chunks or values.dtype != array.dtype:
            chunk = np.zeros(array.chunks, dtype=array.dtype)
            at = (place[0] * array.chunks[0], _first(array, place[1:]))
            _copy(chunk, at, values, (start, low))
        chunk_file(path, array, place).write_bytes(_encode(chunk))

    places = _grid(array, (start, start + len(values)), (low, high))
    for _ in in_parallel(write, places, _size(array)):
        pass
    return True


def _grid(
    array: zarr.Array[Any], rows: tuple[int, int], columns: tuple[int, int]
) -> Iterator[tuple[int, ...]]:
    """Yield the index of each chunk that holds values of ``rows`` and ``columns`` (first, end)."""
    height, *widths = array.chunks
    others = (0,) * max(0, array.ndim - 2)
    for row in range(rows[0] // height, -(-rows[1] // height)):
        if array.ndim == 1:
            yield (row,)
            continue
        width = widths[0]
        span = range(columns[0] // width, -(-columns[1] // width)) if array.ndim == 2 else range(1)
        yield from ((row, column, *others) for column in span)


def _first(array: zarr.Array[Any], across: Iterable[int]) -> int:
    """Return the first column of a chunk, whose index along the later axes is ``across``."""
    return next(iter(across), 0) * array.chunks[1] if array.ndim == 2 else 0


def _copy(target: Array, at: tuple[int, int], source: Array, origin: tuple[int, int]) -> None:
    """Copy the overlap of two arrays whose first row and column are at ``at`` and ``origin``."""
    axes = min(2, target.ndim)
    places: list[tuple[slice, slice]] = []
    for axis in range(axes):
        low = max(at[axis], origin[axis])
        high = min(at[axis] + target.shape[axis], origin[axis] + source.shape[axis])
        places.append(
            (slice(low - at[axis], high - at[axis]), slice(low - origin[axis], high - origin[axis]))
        )
    target[tuple(to for to, _ in places)] = source[tuple(of for _, of in places)]


def _size(array: zarr.Array[Any]) -> int:
    return math.prod(array.chunks) * array.dtype.itemsize


def _encode(chunk: Array) -> bytearray:
    values = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
    content = bytearray(len(values) + CRC_BYTES)
    content[:-CRC_BYTES] = values.data
    content[-CRC_BYTES:] = crc_of(values)
    return content


def _read_chunk(path: S3Path, array: zarr.Array[Any], place: tuple[int, ...]) -> Array | None:
    file = chunk_file(path, array, place)
    try:
        content = read_object(file)
    except FileNotFoundError:
        return None
    if len(content) != _size(array) + CRC_BYTES:
        return None
    values = chunk_values(np.frombuffer(content, np.uint8), array)
    if values is None:  # the cached copy may be the damaged one
        forget(file)
    return values
