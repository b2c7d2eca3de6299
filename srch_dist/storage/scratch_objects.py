"""Scratch files as objects in a store: one task writes a whole object, tasks read ranges of it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Array
from srch_dist.storage._object_chunks import in_parallel
from srch_dist.storage.failures import translate_s3_errors
from srch_dist.storage.locations import S3Path
from srch_dist.storage.npy_header import HEADER_BYTES, NpyHeader, parse_header
from srch_dist.storage.object_cache import read_range
from srch_dist.storage.s3 import connect, obstore

# Bytes of the first read of an object: its header and, of a small array, all values.
_FIRST_BYTES = 32 << 10
# Bytes that a read of a few rows is assumed to have, which decides how many run at the same time.
_ROWS_BYTES = 1 << 20
# Bytes of a part of a long object; S3 permits at most 10,000 parts.
PART_BYTES = 16 << 20
# Headers that this process has read, with the version of their objects. A shuffle reads every
# object once per partition.
_headers: dict[S3Path, tuple[NpyHeader, str]] = {}
_MOST_HEADERS = 1 << 16
_lock = threading.Lock()

S = TypeVar("S")
T = TypeVar("T")


def write(path: S3Path, values: Array) -> None:
    """Write an array as an .npy object."""
    header = io.BytesIO()
    values = np.ascontiguousarray(values)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    content = bytearray(header.tell() + values.nbytes)
    content[: header.tell()] = header.getvalue()
    content[header.tell() :] = values.reshape(-1).view(np.uint8).data
    path.write_bytes(content)


def read(path: S3Path, start: int, stop: int | None) -> Array:
    """Read rows ``start`` to ``stop`` - 1 (None: to the end) of an array that `write` wrote.

    Raises
    ------
    OSError, ValueError : the object is absent or its header damaged.
    StorageError : the object is truncated.
    """
    with _lock:
        header, version = _headers.get(path, (None, ""))
    if header is not None:
        low, high, rows = _bytes_of(header, start, stop)
        # The range of an array that was written again, shorter, may lie behind its end: an error.
        with suppress(StorageError):
            if low < high and (part := path.read_part(low, high)).version == version:
                return _as_rows(path, header, part.content, rows)
    # Not read before, or written again.
    first = path.read_part(0, _FIRST_BYTES)
    header = parse_header(bytes(first.content[:HEADER_BYTES]))
    if not header.fits(first.size - header.offset):
        raise StorageError(f"the scratch file {path} is truncated")
    with _lock:
        if len(_headers) >= _MOST_HEADERS:
            _headers.clear()
        _headers[path] = header, first.version
    low, high, rows = _bytes_of(header, start, stop)
    whole = high <= len(first.content)
    content = first.content[low:high] if whole else path.read_part(low, high).content
    return _as_rows(path, header, content, rows)


def read_each(call: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield ``call(item)`` for each item in order; several reads run at the same time."""
    return in_parallel(call, items, _ROWS_BYTES)


def write_runs(
    folder: S3Path, types: Mapping[str, Any], runs: Iterable[Mapping[str, Array]]
) -> dict[str, tuple[int, str]]:
    """Concatenate blocks of values into one object per name; see `scratch.spill_runs`.

    Returns the number of values of each object, and its version. An object appears once it is
    complete. Parts that a killed process has uploaded remain in the bucket, invisible, until the
    bucket's lifecycle rule removes them.
    """
    counts = dict.fromkeys(types, 0)
    with translate_s3_errors(str(folder), "write"):
        opened = partial(obstore().open_writer, connect(folder.bucket), buffer_size=PART_BYTES)
        files = {name: opened((folder / name).key) for name in types}
        for run in runs:
            for name, values in run.items():
                wide = np.ascontiguousarray(values, dtype=types[name])
                if wide.size:
                    files[name].write(wide.view(np.uint8))
                counts[name] += len(values)
        for file in files.values():
            file.close()
    return {name: (count, _version(folder / name)) for name, count in counts.items()}


def read_values(
    path: S3Path, version: str, size: int, dtype: np.dtype[Any], part: tuple[int, int]
) -> Array:
    """Read values ``part`` (first, end) of an object that `write_runs` wrote.

    ``version`` and ``size`` (bytes) are those of the object.
    """
    if part[0] >= part[1]:
        return np.empty(0, dtype)
    start, stop = (place * dtype.itemsize for place in part)
    content = read_range(path, version, size, start, stop)
    return np.frombuffer(content, dtype, len(content) // dtype.itemsize)


def _version(path: S3Path) -> str:
    with translate_s3_errors(str(path), "read"):
        return str(obstore().head(connect(path.bucket), path.key)["e_tag"])


def _bytes_of(header: NpyHeader, start: int, stop: int | None) -> tuple[int, int, int]:
    """Return the first and end byte of rows in an object, and their number."""
    low, high, _ = slice(start, stop).indices(header.shape[0])
    rows = max(0, high - low)
    width = header.row_values * header.dtype.itemsize
    first = header.offset + low * width
    return first, first + rows * width, rows


def _as_rows(path: S3Path, header: NpyHeader, content: memoryview, rows: int) -> Array:
    # A copy: the content is read-only, and may be a part of a larger one.
    values = np.frombuffer(content, header.dtype, len(content) // header.dtype.itemsize)
    if len(values) != rows * header.row_values:
        raise StorageError(f"the scratch file {path} is truncated")
    return values.reshape(rows, *header.shape[1:]).copy()
