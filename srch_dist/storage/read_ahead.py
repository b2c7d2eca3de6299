"""Read the next item in a thread while the caller works on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def read_ahead(read: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield ``read(item)`` in order; a thread reads the next item while the caller uses this one.

    At most two items are in memory, if the caller drops each before it asks for the next.
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
            # A reference here would keep a third item in memory during the next read.
            del current
        yield following.result()
