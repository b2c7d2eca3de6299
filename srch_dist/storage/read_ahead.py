"""Read the next item in a thread while the caller processes the current item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def read_ahead(read: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield ``read(item)`` for each item in order; a thread reads one item ahead of the caller.

    At most two results are in memory if the caller drops each result before it asks for the next.
    """
    if len(items) == 1:  # nothing to read ahead
        yield read(items[0])
        return
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(read, items[0])
        for item in items[1:]:
            current = following.result()
            following = thread.submit(read, item)
            yield current
            # A local variable would keep a third result in memory during the next read.
            del current
        yield following.result()
