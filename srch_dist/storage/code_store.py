"""Read packed codes that `encode` or an export wrote, in ranges of consecutive rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError, StorageError
from srch_dist.kernels.types import Packed
from srch_dist.storage import arrays
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, check_access, locate
from srch_dist.storage.npy_header import map_npy
from srch_dist.storage.read_ahead import read_ahead

# Bytes of codes per read. A search keeps two such ranges of rows in memory.
_RUN_BYTES = 32 << 20


@dataclass(frozen=True)
class CodeStore:
    """Stored packed codes, uint8 (rows, bits / 8): bit j of a code is bit j % 8 of byte j // 8.

    Attributes
    ----------
    path : a Zarr array, or a local .npy file, which is memory-mapped.
    modality : the encoded modality; None if the file does not record it.
    values : all codes, mapped or in memory; None if rows are read from the Zarr array on demand.
    """

    path: Location
    rows: int
    bits: int
    modality: str | None
    values: Packed | None = field(default=None, repr=False, compare=False)

    def hold(self) -> CodeStore:
        """Read all codes into memory, for many small searches; return the new store."""
        return replace(self, values=np.array(self.read(0, self.rows)))

    def read(self, start: int, stop: int) -> Packed:
        """Read the codes (stop - start, bits / 8) of rows ``start`` to ``stop`` - 1."""
        if self.values is not None:
            return self.values[start:stop]
        return arrays.read_rows(self.path, start, stop)

    def read_scattered(self, rows: NDArray[np.int64]) -> Packed:
        """Read the codes (m, bits / 8) of the rows numbered ``rows`` (m,), in that order."""
        outside = rows[(rows < 0) | (rows >= self.rows)]
        if len(outside):
            raise InputError(f"there is no row {outside[0]} in {self.path}; it has {self.rows}")
        if self.values is not None:
            return self.values[rows]
        return arrays.read_scattered(self.path, rows)

    def runs(self) -> Iterator[tuple[int, Packed]]:
        """Yield (first row, codes) for consecutive ranges of rows, and read one range ahead."""
        step = max(1, _RUN_BYTES * 8 // self.bits)
        if self.values is not None:
            for start in range(0, self.rows, step):
                yield start, self.values[start : start + step]
            return
        array = arrays.open_array(self.path, whole=True)
        step = max(1, step // array.chunks[0]) * array.chunks[0]

        def read(start: int) -> tuple[int, Packed]:
            stop = min(start + step, self.rows)
            return start, arrays.read_opened(self.path, array, start, stop)

        yield from read_ahead(read, range(0, self.rows, step))


# The public name, so that pickles survive moves of modules.
CodeStore.__module__ = "srch_dist"


def open_codes(path: str | Location) -> CodeStore:
    """Open codes that `encode_store` or an export to .npy wrote.

    Raises
    ------
    StorageError : the path does not exist, holds no codes, or chunks are missing.
    """
    place = locate(path)
    check_access(place)
    if not place.exists():
        raise StorageError(f"{place} does not exist; make codes with srch_dist.encode")
    values: Packed | None = None
    if isinstance(place, Path) and place.suffix == ".npy":
        values = _map(place)
        shape, kind, modality = values.shape, values.dtype, None
    else:
        array = arrays.open_array(place)
        shape, kind = array.shape, array.dtype
        modality = array.attrs.get("modality")
        if array.attrs.get("bitorder", "little") != "little":
            raise StorageError(f"{place} is in {array.attrs['bitorder']} bit order, not little")
    if len(shape) != 2 or kind != np.uint8 or min(shape) < 1:
        raise StorageError(f"{place} is {shape} of {kind}; codes are uint8 (rows, bits / 8)")
    if values is None and (missing := arrays.missing_chunks(place)):
        raise StorageError(f"{place}: {missing} chunks are missing; encode again")
    name = None if modality is None else str(modality)
    return CodeStore(place, shape[0], 8 * shape[1], name, values)


def _map(path: Path) -> Packed:
    try:
        mapped: Packed = np.asarray(map_npy(path))
    except (OSError, ValueError) as error:
        raise storage_error("read codes from", path, error) from None
    return mapped
