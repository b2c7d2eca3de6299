"""Limits on the memory and disk that a source may need, checked before anything is allocated."""

from __future__ import annotations

import math
from pathlib import Path

from srch_dist.errors import InputError
from srch_dist.storage.disk_space import check_space
from srch_dist.storage.locations import Location, stored_bytes

# Maximum bytes of one array in memory: a whole column-major array, or one chunk.
MAX_BLOCK_BYTES = 1 << 30
# Maximum bytes of one row: 16 million dimensions in float32.
MAX_ROW_BYTES = 64 << 20
# Features have almost no redundancy: data that expand beyond both limits are no features.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 200
# Maximum rows of a chunk: the number of bytes of this many values still fits in int64.
MOST_ROWS = 1 << 48


def refuse_bomb(path: Path, name: str, expanded: int, stored: int) -> None:
    """Raise InputError if data expand more than `BOMB_RATIO`-fold and to more than `BOMB_BYTES`.

    ``stored`` is the size in bytes before the expansion, ``expanded`` that after the expansion.
    """
    if expanded > BOMB_BYTES and expanded > BOMB_RATIO * max(1, stored):
        raise InputError(
            f"{path}: {name} would expand from {stored} to {expanded} bytes, more than "
            f"{BOMB_RATIO}-fold. If {name} really holds features, save {name} uncompressed."
        )


def refuse_chunk(path: Path, name: str, chunk: tuple[int, ...], itemsize: int) -> None:
    """Raise InputError for an array with chunks of more than `MAX_BLOCK_BYTES`."""
    size = math.prod(chunk) * itemsize
    if size > MAX_BLOCK_BYTES:
        raise InputError(
            f"{path}: {name} has chunks of shape {chunk}, {size} bytes each, expected at most "
            f"{MAX_BLOCK_BYTES} bytes. Save {name} in smaller chunks."
        )


def refuse_wide(label: str, name: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise InputError for an array with rows of more than `MAX_ROW_BYTES`."""
    size = math.prod(shape[1:]) * itemsize
    if size > MAX_ROW_BYTES:
        raise InputError(
            f"{label}: a row of {name}, shape {shape}, has {size} bytes, expected at most "
            f"{MAX_ROW_BYTES} bytes"
        )


def refuse_full_disk(store: Location, needed: int) -> None:
    """Raise InputError if a store of ``needed`` bytes does not fit on its disk.

    Bytes that an interrupted ingest already wrote count as free.
    """
    stored = stored_bytes(store) if isinstance(store, Path) else 0
    check_space(store, needed, "the store", stored)
