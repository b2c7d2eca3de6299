"""Read the next item in a thread while the caller works on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def read_ahead(read: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """``read`` of each item in order; a thread reads the next while the caller uses one."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(read, items[0])
        for item in items[1:]:
            current = following.result()
            following = thread.submit(read, item)
            yield current
            # Otherwise three would be in memory once the next is asked for.
            del current
        yield following.result()
