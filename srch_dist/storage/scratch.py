"""Scratch files: arrays written once, whole or run by run, and read back in runs of rows.

A Zarr chunk is read whole or not at all, so a few rows of it cost as much as all. Here a run of
rows costs its own bytes. A file is renamed when it is whole, so a reader never sees a part of it.
"""

from __future__ import annotations

import io
import math
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Array

# Header of an `.npy` file, padded to this by NumPy for every array that has few dimensions.
_HEADER_BYTES = 128


def write_spill(folder: Path, values: Mapping[str, Array]) -> None:
    """Write arrays as files of a folder, replacing what an earlier try left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in values.items():
            part = folder / f"{name}.{os.getpid()}.part"
            with part.open("wb") as file:
                np.save(file, np.ascontiguousarray(array))
            part.replace(folder / f"{name}.npy")
    except OSError as error:
        raise StorageError(f"cannot write scratch files in {folder}: {error}") from None


@dataclass(frozen=True)
class _Described:
    """What the header of a file says: its array, and where its values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def row_values(self) -> int:
        """Values of a row."""
        return math.prod(self.shape[1:])

    @property
    def bytes(self) -> int:
        """Bytes of the whole file."""
        return self.offset + self.shape[0] * self.row_values * self.dtype.itemsize


@lru_cache(maxsize=4096)
def _described(beginning: bytes) -> _Described:
    """What the beginning of an `.npy` file of `write_spill` says.

    Raises
    ------
    ValueError : it is none.
    """
    file = io.BytesIO(beginning)
    np.lib.format.read_magic(file)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if by_columns:
        raise ValueError("its rows are not in one piece each")
    return _Described(shape, dtype, file.tell())


def read_spill(folder: Path, name: str, start: int = 0, stop: int | None = None) -> Array:
    """Rows ``start`` … ``stop`` - 1 (all by default) of an array of `write_spill`."""
    path = folder / f"{name}.npy"
    try:
        # Not np.load: a shuffle opens every file once for each partition that it makes, and to
        # parse the header each time takes longer than to read some rows.
        with path.open("rb", buffering=0) as file:
            array = _described(file.read(_HEADER_BYTES))
            start, stop, _ = slice(start, stop).indices(array.shape[0])
            rows = max(0, stop - start)
            if os.fstat(file.fileno()).st_size < array.bytes:
                raise StorageError(f"the scratch file {path} is cut")
            file.seek(array.offset + start * array.row_values * array.dtype.itemsize)
            values: Array = np.fromfile(file, array.dtype, rows * array.row_values)
        return values.reshape(rows, *array.shape[1:])
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read the scratch file {path}: {error}") from None


def gather_spill(folders: Sequence[Path], name: str, spans: Sequence[Sequence[int]]) -> Array:
    """The rows ``spans[i]`` (start, stop) of the array of each folder, one after another."""
    parts = [
        read_spill(folder, name, start, stop)
        for folder, (start, stop) in zip(folders, spans, strict=True)
        if start < stop
    ]
    return np.concatenate(parts) if parts else read_spill(folders[0], name, 0, 0)


@dataclass(frozen=True)
class SpilledValues:
    """A file of ``count`` values of one type, fetched in runs.

    Runs are read and not mapped: mapped pages would count as a worker's memory.
    """

    path: Path
    dtype: np.dtype[Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(self.count)
        size = max(0, stop - start)
        try:
            values: Array = np.fromfile(
                self.path, self.dtype, size, offset=start * self.dtype.itemsize
            )
        except OSError as error:
            raise StorageError(f"cannot read the scratch file {self.path}: {error}") from None
        if len(values) < size:
            raise StorageError(f"the scratch file {self.path} is cut after {start + len(values)}")
        return values


def spill_runs(
    folder: Path, types: Mapping[str, Any], runs: Iterable[Mapping[str, Array]]
) -> dict[str, SpilledValues]:
    """Write runs of values one after another, a file a name, replacing what is there.

    ``types`` gives the type of each name's file, to which its values are brought. Files are
    renamed when they are whole, so that a reader never sees a part of one.
    """
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
        raise StorageError(f"cannot write scratch files in {folder}: {error}") from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return {
        name: SpilledValues(folder / name, np.dtype(dtype), counts[name])
        for name, dtype in types.items()
    }


def keep_runs(
    folder: Path | None, types: Mapping[str, Any], count: int, runs: Iterable[Mapping[str, Array]]
) -> Mapping[str, Array | SpilledValues]:
    """Runs of ``count`` values a name in all, in files of ``folder`` or, without one, in memory."""
    return join_runs(types, count, runs) if folder is None else spill_runs(folder, types, runs)


def join_runs(
    types: Mapping[str, Any], count: int, runs: Iterable[Mapping[str, Array]]
) -> dict[str, Array]:
    """What `spill_runs` writes, in memory: ``count`` values a name in all."""
    arrays = {name: np.empty(count, dtype=dtype) for name, dtype in types.items()}
    filled = dict.fromkeys(types, 0)
    for run in runs:
        for name, values in run.items():
            arrays[name][filled[name] : filled[name] + len(values)] = values
            filled[name] += len(values)
    return arrays
