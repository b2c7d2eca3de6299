"""Read, in ranges of consecutive rows, packed codes that `encode` or an export wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError, StorageError
from srch_dist.kernels.types import Array, IntArray, Mask, Packed
from srch_dist.storage import arrays
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, check_access, locate
from srch_dist.storage.npy_header import map_npy
from srch_dist.storage.read_ahead import read_ahead
from srch_dist.storage.recorded_runs import read_verified, recorded_runs
from srch_dist.storage.run.head import check_array

# Bytes of codes per read. A search keeps two such ranges of rows in memory.
_RUN_BYTES = 32 << 20
# Folder of the array of ids, inside the array of codes.
IDS = "ids"
_NO_ROWS: IntArray = np.empty(0, np.int64)
_NO_ROWS.flags.writeable = False
_NONE: IntArray = np.empty((0, 3), np.int64)
_NONE.flags.writeable = False


@dataclass(frozen=True)
class CodeStore:
    """Stored packed codes, uint8 (rows, bits / 8): bit j of a code is bit j % 8 of byte j // 8.

    Attributes
    ----------
    path : a Zarr array, or a local .npy file, which is memory-mapped.
    modality : the encoded modality; None if the file does not record it.
    values : all codes, mapped or in memory; None if rows are read from the Zarr array on demand.
    recorded : first row, end row (excluded) and crc32 of each of the r blocks that `encode` wrote,
        as (r, 3); (0, 3) if no checksums are recorded. Rows read from a Zarr array are verified
        against them.
    model : identity of the model that made the codes; None if it is not recorded.
    features : crc32 of the encoded features; None if it is not recorded.
    learned : True for the codes that a run learned for its training rows.
    parts : number of rows and crc32 of the features (None if unknown) of each addition, in order;
        empty for codes that were encoded at once.
    deleted : row numbers that were deleted or replaced, ascending; no search finds them.
    """

    path: Location
    rows: int
    bits: int
    modality: str | None
    values: Packed | None = field(default=None, repr=False, compare=False)
    recorded: IntArray = field(default_factory=lambda: _NONE, repr=False, compare=False)
    model: str | None = field(default=None, repr=False)
    features: int | None = field(default=None, repr=False)
    learned: bool = False
    parts: tuple[tuple[int, int | None], ...] = field(default=(), repr=False)
    deleted: IntArray = field(default_factory=lambda: _NO_ROWS, repr=False, compare=False)

    def __repr__(self) -> str:
        deleted = f", {len(self.deleted)} deleted" if len(self.deleted) else ""
        named = f" of {self.modality}" if self.modality else ""
        return f"CodeStore({str(self.path)!r}, {self.rows} rows{deleted}, {self.bits} bits{named})"

    def alive(self) -> Mask | None:
        """Return (n,) True for the rows that are not deleted; None if none is deleted."""
        if not len(self.deleted):
            return None
        alive = np.ones(self.rows, bool)
        alive[self.deleted] = False
        return alive

    def read_ids(self, start: int, stop: int) -> Array | None:
        """Read the ids of rows ``start`` to ``stop`` - 1 as texts; None if the codes have none."""
        if not isinstance(self.path, Path) or not (self.path / IDS / "zarr.json").is_file():
            return None
        return arrays.read_rows(self.path / IDS, start, min(stop, self.rows))

    def hold(self) -> CodeStore:
        """Return a code store with all codes in memory, for many small searches."""
        return replace(self, values=np.array(self.read(0, self.rows)))

    def read(self, start: int, stop: int) -> Packed:
        """Read the codes (stop - start, bits / 8) of rows ``start`` to ``stop`` - 1."""
        if self.values is not None:
            return self.values[start:stop]
        return read_verified(self.path, self.recorded, start, min(stop, self.rows))

    def read_scattered(self, rows: NDArray[np.int64]) -> Packed:
        """Read the codes (m, bits / 8) of the rows numbered ``rows`` (m,), in that order."""
        outside = rows[(rows < 0) | (rows >= self.rows)]
        if len(outside):
            raise InputError(
                f"there is no row {outside[0]} in {self.path}; it has {self.rows} rows"
            )
        if self.values is not None:
            return self.values[rows]
        return arrays.read_scattered(self.path, rows, self.read)

    def runs(self) -> Iterator[tuple[int, Packed]]:
        """Yield (first row, codes) of consecutive ranges of rows, and read the next range ahead."""
        step = max(1, _RUN_BYTES * 8 // self.bits)
        if self.values is not None:
            for start in range(0, self.rows, step):
                yield start, self.values[start : start + step]
            return
        array = arrays.open_array(self.path, whole=True)
        rows_of = partial(arrays.read_opened, self.path, array)
        step = max(1, step // array.chunks[0]) * array.chunks[0]

        def read(start: int) -> tuple[int, Packed]:
            stop = min(start + step, self.rows)
            return start, read_verified(self.path, self.recorded, start, stop, rows_of)

        yield from read_ahead(read, range(0, self.rows, step))


# The public name, so that pickles survive moves of modules.
CodeStore.__module__ = "srch_dist"


def open_codes(path: str | Location) -> CodeStore:
    """Open codes that `encode_store` or an export to .npy wrote.

    Raises
    ------
    StorageError : the path does not exist, holds no codes, chunks are missing, or the codes are not
        those of the run in whose directory they are.
    """
    place = locate(path)
    check_access(place)
    if not place.exists():
        raise StorageError(f"{place} does not exist; make codes with srch_dist.encode")
    values: Packed | None = None
    attributes: dict[str, Any]
    recorded = _NONE
    if isinstance(place, Path) and place.suffix == ".npy":
        values = _map(place)
        shape, kind, attributes = values.shape, values.dtype, {}
    else:
        check_array(place)
        array = arrays.open_array(place)
        shape, kind, attributes = array.shape, array.dtype, dict(array.attrs)
        recorded = recorded_runs(place, array)
        if attributes.get("bitorder", "little") != "little":
            raise StorageError(f"{place} is in {attributes['bitorder']} bit order, not little")
    if len(shape) != 2 or kind != np.uint8 or min(shape) < 1:
        raise StorageError(f"{place} has shape {shape} of {kind}; codes are uint8 (rows, bits / 8)")
    if values is None and (missing := arrays.missing_chunks(place)):
        raise StorageError(f"{place}: {missing} chunks are missing; encode again")
    modality, model = (_text(attributes.get(name)) for name in ("modality", "model"))
    features = attributes.get("features")
    crc = features if isinstance(features, int) else None
    learned = "rows" in attributes
    rows, bits = shape[0], 8 * shape[1]
    parts, deleted = _parts(place, attributes, rows), _deleted(place, attributes, rows)
    return CodeStore(
        place, rows, bits, modality, values, recorded, model, crc, learned, parts, deleted
    )


def _parts(
    path: Location, attributes: Mapping[str, Any], rows: int
) -> tuple[tuple[int, int | None], ...]:
    try:
        parts = tuple((int(count), crc) for count, crc in attributes.get("parts", []))
    except (TypeError, ValueError) as error:
        raise StorageError(f"{path}: its attribute 'parts' is damaged ({error!r})") from None
    if parts and sum(count for count, _ in parts) != rows:
        raise StorageError(f"{path}: its attribute 'parts' is damaged: it has not {rows} rows")
    return parts


def _deleted(path: Location, attributes: Mapping[str, Any], rows: int) -> IntArray:
    try:
        deleted: IntArray = np.array(attributes.get("deleted", []), np.int64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise StorageError(f"{path}: its attribute 'deleted' is damaged ({error!r})") from None
    if len(deleted) and (deleted.min() < 0 or deleted.max() >= rows):
        raise StorageError(f"{path}: its attribute 'deleted' is damaged: it has no {rows} rows")
    return deleted


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _map(path: Path) -> Packed:
    try:
        mapped: Packed = np.asarray(map_npy(path))
    except (OSError, ValueError) as error:
        raise storage_error("read codes from", path, error) from None
    return mapped
