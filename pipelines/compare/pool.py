"""Work on several data sets at once, in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_sets(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """``work`` of each item, in their order; in this process where ``jobs`` is 1."""
    if jobs == 1:
        yield from map(work, items)
        return
    # Forked workers of a process that has threads may hang; a spawned one starts clean.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn) as pool:
        yield from pool.map(work, items)
