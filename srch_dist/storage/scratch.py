"""Scratch files: arrays that are written once and then read in ranges of rows.

Zarr reads only complete chunks, so reading a few rows costs as much as reading their chunk. From a
scratch file, only the bytes of these rows are read. A file gets its final name when it is complete.
In a run that lives in an object store, the files are objects; see `scratch_objects`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Array, IntArray
from srch_dist.storage import scratch_objects
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, S3Path
from srch_dist.storage.npy_header import HEADER_BYTES, parse_header

# `take_spill` reads through gaps of at most this size, which is faster than a second read, and at
# most about this much at once.
_GAP_BYTES, _RUN_BYTES = 4 << 10, 4 << 20


def write_spill(folder: Location, values: Mapping[str, Array]) -> None:
    """Write each array as ``folder/NAME.npy``, replacing the files of an earlier attempt."""
    if isinstance(folder, S3Path):
        for name, array in values.items():
            scratch_objects.write(folder / f"{name}.npy", array)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in values.items():
            part = folder / f"{name}.{os.getpid()}.part"
            with part.open("wb") as file:
                np.save(file, np.ascontiguousarray(array))
            part.replace(folder / f"{name}.npy")
    except OSError as error:
        raise storage_error("write scratch files in", folder, error) from None


def read_spill(folder: Location, name: str, start: int = 0, stop: int | None = None) -> Array:
    """Read rows ``start`` to ``stop`` - 1 (default: all) of an array that `write_spill` wrote.

    Raises
    ------
    StorageError : the file is absent, damaged or truncated.
    """
    path = folder / f"{name}.npy"
    try:
        if isinstance(path, S3Path):
            return scratch_objects.read(path, start, stop)
        # Not np.load: a shuffle opens every file once per partition, and parsing a header takes
        # longer than reading a few rows.
        with path.open("rb", buffering=0) as file:
            header = parse_header(file.read(HEADER_BYTES))
            start, stop, _ = slice(start, stop).indices(header.shape[0])
            rows = max(0, stop - start)
            if not header.fits(os.fstat(file.fileno()).st_size - header.offset):
                raise StorageError(f"the scratch file {path} is truncated")
            file.seek(header.offset + start * header.row_values * header.dtype.itemsize)
            values: Array = np.fromfile(file, header.dtype, rows * header.row_values)
        return values.reshape(rows, *header.shape[1:])
    except (OSError, ValueError) as error:
        raise storage_error("read the scratch file", path, error) from None


def each_spill(
    folders: Sequence[Location], name: str, spans: Sequence[Sequence[int]]
) -> Iterator[Array]:
    """Read rows of the array ``name`` in each of ``folders``, in order, without the empty ranges.

    ``spans`` has (start, stop) for each folder. Objects of a store are read several at a time.
    """
    wanted = [pair for pair in zip(folders, spans, strict=True) if pair[1][0] < pair[1][1]]

    def read(part: tuple[Location, Sequence[int]]) -> Array:
        return read_spill(part[0], name, *part[1])

    remote = bool(folders) and isinstance(folders[0], S3Path)
    return scratch_objects.read_each(read, wanted) if remote else map(read, wanted)


def gather_spill(folders: Sequence[Location], name: str, spans: Sequence[Sequence[int]]) -> Array:
    """Concatenate ranges of rows of the array ``name``, one range from each of ``folders``.

    For each folder, ``spans`` has (start, stop): rows start to stop - 1 are read.
    """
    empty = read_spill(folders[0], name, 0, 0)
    # Filled in place: a list of parts and their concatenation need twice the memory.
    rows = np.empty((sum(stop - start for start, stop in spans), *empty.shape[1:]), empty.dtype)
    place = 0
    for part in each_spill(folders, name, spans):
        rows[place : place + len(part)] = part
        place += len(part)
    return rows


def take_spill(folder: Location, name: str, rows: IntArray) -> Array:
    """Read the ascending ``rows`` (m,) of an array that `write_spill` wrote.

    Rows that are near each other in the file are read at once, with the rows between them.

    Raises
    ------
    StorageError : the file is absent, damaged or truncated.
    """
    path = folder / f"{name}.npy"
    if isinstance(path, S3Path):
        return _take_object(path, rows)
    try:
        with path.open("rb", buffering=0) as file:
            header = parse_header(file.read(HEADER_BYTES))
            values = header.row_values
            size = values * header.dtype.itemsize
            if not header.fits(os.fstat(file.fileno()).st_size - header.offset):
                raise StorageError(f"the scratch file {path} is truncated")
            result = np.empty((len(rows), *header.shape[1:]), header.dtype)
            for low, high in _near_runs(rows, size):
                first, last = int(rows[low]), int(rows[high - 1])
                file.seek(header.offset + first * size)
                block = np.fromfile(file, header.dtype, (last + 1 - first) * values)
                result[low:high] = block.reshape(-1, *header.shape[1:])[rows[low:high] - first]
        return result
    except (OSError, ValueError) as error:
        raise storage_error("read the scratch file", path, error) from None


def _take_object(path: S3Path, rows: IntArray) -> Array:
    """Read the ascending ``rows`` of an object; see `take_spill`."""
    empty = scratch_objects.read(path, 0, 0)
    size = empty.dtype.itemsize * int(np.prod(empty.shape[1:], dtype=np.int64))

    def read(run: tuple[int, int]) -> Array:
        low, high = run
        first, last = int(rows[low]), int(rows[high - 1])
        return scratch_objects.read(path, first, last + 1)[rows[low:high] - first]

    parts = scratch_objects.read_each(read, _near_runs(rows, size))
    return np.concatenate([empty, *parts])


def _near_runs(rows: IntArray, size: int) -> list[tuple[int, int]]:
    """Split ascending ``rows`` of ``size`` bytes into runs to read at once, as (low, high).

    Gaps in a run have at most `_GAP_BYTES`, and a run spans about `_RUN_BYTES` at most.
    """
    if not len(rows):
        return []
    gaps = np.diff(rows) * size > _GAP_BYTES
    gaps |= np.diff((rows - rows[0]) * size // _RUN_BYTES) > 0
    cuts = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(rows)]
    return list(pairwise(cuts))


@dataclass(frozen=True)
class SpilledValues:
    """A scratch file of ``count`` values of one dtype; indexing reads the values of a slice.

    Slices are read, not memory-mapped, because mapped pages count as memory of the worker.
    ``version`` is that of an object in a store, "" for a file.
    """

    path: Location
    dtype: np.dtype[Any]
    count: int
    version: str = ""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(self.count)
        size = max(0, stop - start)
        try:
            if isinstance(self.path, S3Path):
                whole = self.count * self.dtype.itemsize
                values = scratch_objects.read_values(
                    self.path, self.version, whole, self.dtype, (start, start + size)
                )
            else:
                offset = start * self.dtype.itemsize
                values = np.fromfile(self.path, self.dtype, size, offset=offset)
        except OSError as error:
            raise storage_error("read the scratch file", self.path, error) from None
        if len(values) < size:
            raise StorageError(
                f"the scratch file {self.path} is truncated after {start + len(values)} "
                f"of {self.count} values"
            )
        return values


def spill_runs(
    folder: Location, types: Mapping[str, Any], runs: Iterable[Mapping[str, Array]]
) -> dict[str, SpilledValues]:
    """Concatenate blocks of values into one scratch file per name, replacing existing files.

    Parameters
    ----------
    types : dtype of each file, by name; the file's values are cast to this dtype.
    runs : blocks in order; each maps names to 1-D arrays of values.
    """
    if isinstance(folder, S3Path):
        written = scratch_objects.write_runs(folder, types, runs)
        return {
            name: SpilledValues(folder / name, np.dtype(types[name]), *found)
            for name, found in written.items()
        }
    counts = dict.fromkeys(types, 0)
    parts = {name: folder / f"{name}.{uuid.uuid4().hex}.part" for name in types}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = {name: stack.enter_context(part.open("wb")) for name, part in parts.items()}
            for run in runs:
                for name, values in run.items():
                    values.astype(types[name], copy=False).tofile(files[name])
                    counts[name] += len(values)
        for name, part in parts.items():
            part.replace(folder / name)
    except OSError as error:
        raise storage_error("write scratch files in", folder, error) from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return {
        name: SpilledValues(folder / name, np.dtype(dtype), counts[name])
        for name, dtype in types.items()
    }


def keep_runs(
    folder: Location | None,
    types: Mapping[str, Any],
    count: int,
    runs: Iterable[Mapping[str, Array]],
) -> Mapping[str, Array | SpilledValues]:
    """Concatenate blocks as `spill_runs` does, but in memory if ``folder`` is None.

    All blocks together have ``count`` values of each name.
    """
    return join_runs(types, count, runs) if folder is None else spill_runs(folder, types, runs)


def join_runs(
    types: Mapping[str, Any], count: int, runs: Iterable[Mapping[str, Array]]
) -> dict[str, Array]:
    """Concatenate blocks in memory as `spill_runs` does on disk; each name has ``count`` values."""
    arrays = {name: np.empty(count, dtype=dtype) for name, dtype in types.items()}
    filled = dict.fromkeys(types, 0)
    for run in runs:
        for name, values in run.items():
            arrays[name][filled[name] : filled[name] + len(values)] = values
            filled[name] += len(values)
    return arrays
