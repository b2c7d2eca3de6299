"""Keep Python's garbage collection out of code in which it could wait for ever."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect garbage now, and not again in this context.

    Starting or stopping a loop of distributed holds a lock. A client that is collected meanwhile in
    the same thread closes itself, for which it waits for that lock: the thread would stand still.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
