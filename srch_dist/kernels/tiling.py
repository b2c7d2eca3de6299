"""Split rows into tiles that fit a core's cache, and ranges into runs of nearly equal length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

# Number of values of a tile: 128 KiB in float32.
_CACHED_VALUES = 1 << 15


def cached_tiles(values: NDArray[Any]) -> Iterator[slice]:
    """Split the rows of ``values`` (rows, l) into tiles that fit a core's cache.

    The caller applies several operations to one tile, and then goes to the next tile. An operation
    on millions of rows at once would read the rows from main memory.
    """
    step = max(1, _CACHED_VALUES // values.shape[1])
    return (slice(start, start + step) for start in range(0, len(values), step))


def even_splits(count: int, parts: int) -> tuple[int, ...]:
    """Split 0 … ``count`` - 1 into ``parts`` runs of nearly equal length.

    Returns
    -------
    ``parts`` + 1 numbers: the start of each run, then ``count``.
    """
    return tuple(round(part * count / parts) for part in range(parts + 1))
