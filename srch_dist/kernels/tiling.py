"""Sizes in memory: of records of arrays, for whoever moves them, and of what a cache holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

_CACHED_VALUES = 1 << 15


def chunks(values: NDArray[Any]) -> Iterator[slice]:
    """Runs of the rows of ``values`` (rows, l) short enough to stay in a core's cache.

    A chain of operations on whole vectors of millions of rows goes through memory at each.
    """
    step = max(1, _CACHED_VALUES // values.shape[1])
    return (slice(start, start + step) for start in range(0, len(values), step))


def even_splits(partitions: int, runs: int) -> tuple[int, ...]:
    """First partition of each of ``runs`` even runs, and the number of partitions."""
    return tuple(round(run * partitions / runs) for run in range(runs + 1))
