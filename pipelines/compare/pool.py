"""Process several data sets in parallel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_sets(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """Yield ``work(item)`` in order, from ``jobs`` processes, or from this process if 1."""
    if jobs == 1:
        yield from map(work, items)
        return
    # A forked process may hang if its parent has threads; a spawned one does not.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn) as pool:
        yield from pool.map(work, items)
