"""Scratch files of a shuffle: arrays written once, whole, and read back in runs of rows.

A Zarr chunk is read whole or not at all, so a few rows of it cost as much as all. Here a run of
rows costs its own bytes. A file is renamed when it is whole, so a reader never sees a part of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
