"""Keep Python's garbage collection out of code in which it could wait forever."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect garbage now, and not again in this context.

    A thread holds a lock while it starts or stops an event loop of Dask. If the thread collects
    a client meanwhile, the client closes itself and waits for that lock, so the thread would wait
    forever.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
