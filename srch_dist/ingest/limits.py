"""What no file may make a reader allocate or write, whatever its headers say."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from srch_dist.errors import InputError
from srch_dist.storage.locations import Location, stored_bytes

# The most of an array that is held at once: a column-major member, one chunk of a chunked format.
WHOLE_BYTES = 1 << 30
# The widest row: 16 million dimensions in float32.
ROW_BYTES = 64 << 20
# Features hold next to no redundancy; what grows this much is not features.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 200


def refuse_bomb(path: Path, name: str, expanded: int, stored: int) -> None:
    """Refuse an array of ``expanded`` bytes of which only ``stored`` are in the file."""
    if expanded > BOMB_BYTES and expanded > BOMB_RATIO * max(1, stored):
        raise InputError(
            f"{path}: {name} would grow from {stored} bytes to {expanded}, more than "
            f"{BOMB_RATIO}-fold; if these are features indeed, save them uncompressed"
        )


def refuse_chunk(path: Path, name: str, chunk: tuple[int, ...], itemsize: int) -> None:
    """Refuse an array whose chunks cannot be held in memory one at a time."""
    size = math.prod(chunk) * itemsize
    if size > WHOLE_BYTES:
        raise InputError(
            f"{path}: {name} has chunks {chunk} of {size} bytes, at most {WHOLE_BYTES} are read "
            "at once; save it in smaller chunks"
        )


def refuse_wide(path: str, name: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse an array whose single rows are too large."""
    size = math.prod(shape[1:]) * itemsize
    if size > ROW_BYTES:
        raise InputError(
            f"{path}: a row of {name} {shape} takes {size} bytes, at most {ROW_BYTES} are read"
        )


def refuse_full_disk(store: Location, needed: int) -> None:
    """Refuse a store that the disk has no room for; an object store has no such bound.

    What an earlier try has written of it has its room already.
    """
    if not isinstance(store, Path):
        return
    folder = next(parent for parent in store.parents if parent.exists())
    free, stored = shutil.disk_usage(folder).free, stored_bytes(store)
    if needed > free + stored:
        raise InputError(
            f"the store would take {needed} bytes, {folder} has {free} free"
            f"{f' beside {stored} of it' if stored else ''}; make room or name another place"
        )
