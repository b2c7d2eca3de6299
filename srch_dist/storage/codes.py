"""Packed codes on disk, as `encode` or an export wrote them, read a run of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError, StorageError
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location, check_access, locate

Packed = NDArray[np.uint8]

# Codes read at once; a search holds two such runs.
_RUN_BYTES = 32 << 20


@dataclass(frozen=True)
class CodeStore:
    """Codes (rows, bits / 8), uint8, bit j of a code being bit j % 8 of byte j // 8.

    Attributes
    ----------
    path : a Zarr array, or a local .npy file, which is memory-mapped.
    modality : what was encoded; None where the file does not say.
    """

    path: Location
    rows: int
    bits: int
    modality: str | None

    def read(self, start: int, stop: int) -> Packed:
        """Codes of rows ``start`` … ``stop`` - 1."""
        if _is_mapped(self.path):
            return np.asarray(_map(self.path)[start:stop])
        return arrays.read_rows(self.path, start, stop)

    def read_scattered(self, rows: NDArray[np.int64]) -> Packed:
        """Codes (m, bits / 8) of the rows numbered ``rows`` (m,), in their order."""
        outside = rows[(rows < 0) | (rows >= self.rows)]
        if len(outside):
            raise InputError(f"there is no row {outside[0]} in {self.path}; it has {self.rows}")
        if _is_mapped(self.path):
            return np.asarray(_map(self.path)[rows])
        return arrays.read_scattered(self.path, rows)

    def runs(self) -> Iterator[tuple[int, Packed]]:
        """(first row, codes) of runs of rows in order; one is read while another is worked on."""
        width = self.bits // 8
        step = max(1, _RUN_BYTES // width)
        if not _is_mapped(self.path):
            chunk = arrays.open_array(self.path).chunks[0]
            step = max(1, step // chunk) * chunk
        starts = range(0, self.rows, step)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.read, 0, min(step, self.rows))
            for start in starts:
                codes = ahead.result()
                if start + step < self.rows:
                    ahead = reader.submit(self.read, start + step, min(start + 2 * step, self.rows))
                yield start, codes


def open_codes(path: str | Location) -> CodeStore:
    """Open codes that `encode_store` or an export to .npy wrote.

    Raises
    ------
    StorageError : nothing there, not codes, or chunks missing.
    """
    place = locate(path)
    check_access(place)
    if not place.exists():
        raise StorageError(f"{place} does not exist; make codes with srch_dist.encode")
    if _is_mapped(place):
        codes = _map(place)
        shape, kind, modality = codes.shape, codes.dtype, None
    else:
        array = arrays.open_array(place)
        shape, kind = array.shape, array.dtype
        modality = array.attrs.get("modality")
        if array.attrs.get("bitorder", "little") != "little":
            raise StorageError(f"{place} is in {array.attrs['bitorder']} bit order, not little")
    if len(shape) != 2 or kind != np.uint8 or min(shape) < 1:
        raise StorageError(f"{place} is {shape} of {kind}; codes are uint8 (rows, bits / 8)")
    if not _is_mapped(place) and (lost := arrays.missing_chunks(place)):
        raise StorageError(f"{place}: {lost} chunks are missing; encode again")
    return CodeStore(place, shape[0], 8 * shape[1], None if modality is None else str(modality))


def _is_mapped(path: Location) -> TypeGuard[Path]:
    return isinstance(path, Path) and path.suffix == ".npy"


def _map(path: Path) -> Packed:
    try:
        mapped: Packed = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"cannot read codes from {path}: {error}") from None
    return mapped
