"""Scratch files: arrays written once, whole or run by run, and read back in runs of rows.

A Zarr chunk is read whole or not at all, so a few rows of it cost as much as all. Here a run of
rows costs its own bytes. A file is renamed when it is whole, so a reader never sees a part of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import StorageError

Array = NDArray[Any]


def write_spill(folder: Path, values: Mapping[str, Array]) -> None:
    """Write arrays as files of a folder, replacing what an earlier try left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in values.items():
            part = folder / f"{name}.{os.getpid()}.part"
            with part.open("wb") as file:
                np.save(file, array)
            part.replace(folder / f"{name}.npy")
    except OSError as error:
        raise StorageError(f"cannot write scratch files in {folder}: {error}") from None


def read_spill(folder: Path, name: str, start: int = 0, stop: int | None = None) -> Array:
    """Rows ``start`` … ``stop`` - 1 (all by default) of an array of `write_spill`."""
    path = folder / f"{name}.npy"
    try:
        rows: Array = np.load(path, mmap_mode="r")[start:stop].copy()
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read the scratch file {path}: {error}") from None
    return rows


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
