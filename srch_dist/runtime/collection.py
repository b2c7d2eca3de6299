"""Keep Python's garbage collection out of code in which it could wait forever."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect garbage now, and turn garbage collection off in this context.

    A thread holds a lock while it starts or stops an event loop of Dask. If garbage collection
    finds a client meanwhile, the client closes itself in that thread and waits for the same lock,
    so the thread would wait forever.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
