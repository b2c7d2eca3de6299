"""Scratch files: arrays that are written once and then read in ranges of rows.

Zarr reads only complete chunks, so reading a few rows costs as much as reading their chunk. From a
scratch file, only the bytes of these rows are read. A file gets its final name when it is complete.
"""

from __future__ import annotations

import io
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
from srch_dist.storage.failures import storage_error
from srch_dist.storage.npy_header import NpyHeader, read_npy_header

# NumPy pads the header of an array of few dimensions to this many bytes.
_HEADER_BYTES = 128


def write_spill(folder: Path, values: Mapping[str, Array]) -> None:
    """Write each array as ``folder/NAME.npy``, replacing the files of an earlier attempt."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in values.items():
            part = folder / f"{name}.{os.getpid()}.part"
            with part.open("wb") as file:
                np.save(file, np.ascontiguousarray(array))
            part.replace(folder / f"{name}.npy")
    except OSError as error:
        raise storage_error("write scratch files in", folder, error) from None


def read_spill(folder: Path, name: str, start: int = 0, stop: int | None = None) -> Array:
    """Read rows ``start`` to ``stop`` - 1 (default: all) of an array that `write_spill` wrote.

    Raises
    ------
    StorageError : the file is absent, damaged or truncated.
    """
    path = folder / f"{name}.npy"
    try:
        # Not np.load: a shuffle opens every file once per partition, and parsing a header takes
        # longer than reading a few rows.
        with path.open("rb", buffering=0) as file:
            header = _parse_header(file.read(_HEADER_BYTES))
            start, stop, _ = slice(start, stop).indices(header.shape[0])
            rows = max(0, stop - start)
            if not header.fits(os.fstat(file.fileno()).st_size - header.offset):
                raise StorageError(f"the scratch file {path} is truncated")
            file.seek(header.offset + start * header.row_values * header.dtype.itemsize)
            values: Array = np.fromfile(file, header.dtype, rows * header.row_values)
        return values.reshape(rows, *header.shape[1:])
    except (OSError, ValueError) as error:
        raise storage_error("read the scratch file", path, error) from None


@lru_cache(maxsize=4096)
def _parse_header(content: bytes) -> NpyHeader:
    """Parse the header of a file that `write_spill` wrote; raise ValueError if it is damaged."""
    header = read_npy_header(io.BytesIO(content))
    if header.column_major:
        raise ValueError("its values are stored column by column")
    return header


def gather_spill(folders: Sequence[Path], name: str, spans: Sequence[Sequence[int]]) -> Array:
    """Concatenate ranges of rows of the array ``name``, one range from each of ``folders``.

    For each folder, ``spans`` has (start, stop): rows start to stop - 1 are read.
    """
    parts = [
        read_spill(folder, name, start, stop)
        for folder, (start, stop) in zip(folders, spans, strict=True)
        if start < stop
    ]
    return np.concatenate(parts) if parts else read_spill(folders[0], name, 0, 0)


@dataclass(frozen=True)
class SpilledValues:
    """A scratch file of ``count`` values of one dtype; indexing reads the values of a slice.

    Slices are read, not memory-mapped, because mapped pages count as memory of the worker.
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
            raise storage_error("read the scratch file", self.path, error) from None
        if len(values) < size:
            raise StorageError(
                f"the scratch file {self.path} is truncated after {start + len(values)} "
                f"of {self.count} values"
            )
        return values


def spill_runs(
    folder: Path, types: Mapping[str, Any], runs: Iterable[Mapping[str, Array]]
) -> dict[str, SpilledValues]:
    """Concatenate blocks of values into one scratch file per name, replacing existing files.

    Parameters
    ----------
    types : dtype of each file, by name; the file's values are cast to this dtype.
    runs : blocks in order; each maps names to 1-D arrays of values.
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
        raise storage_error("write scratch files in", folder, error) from None
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
