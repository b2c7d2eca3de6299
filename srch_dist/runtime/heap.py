"""Freed memory that the C library keeps in pieces between what is in use, given back.

NumPy's arrays of up to 32 MiB come from the heap (see `cluster.ALLOCATOR`). After some steps most
of it may be free and still resident, because something small lies above: the C library gives back
the end of its heap by itself, but not what is free further down.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

# Seconds between two times: pages that were given back are made anew where they are used again.
TRIM_SECONDS = 2.0
_lock = threading.Lock()
_last = 0.0


def trim_heap() -> bool:
    """Give back what is free in the heap, unless that was done just before.

    Returns whether it was done; never where the C library has no way to.
    """
    global _last
    give_back = _trimmer()
    with _lock:
        if give_back is None or time.monotonic() - _last < TRIM_SECONDS:
            return False
        _last = time.monotonic()
    give_back(0)
    return True


@cache
def _trimmer() -> Callable[[int], int] | None:
    """``malloc_trim`` of glibc, on Linux; elsewhere there is none."""
    if not sys.platform.startswith("linux"):
        return None
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back.argtypes = [ctypes.c_size_t]
    return give_back
