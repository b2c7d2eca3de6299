"""Return free heap memory of this process to the operating system (glibc's ``malloc_trim``).

NumPy's arrays of up to 32 MiB come from the heap (see `cluster.ALLOCATOR`). glibc returns the free
memory at the end of its heap by itself, but not free memory below a block in use. After some steps
most of the heap can be free and still resident.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

# Least seconds between two trims: the kernel has to provide returned pages again on their next use.
TRIM_SECONDS = 2.0
_lock = threading.Lock()
_last = 0.0


def trim_heap() -> bool:
    """Return free heap memory, unless the last call was less than `TRIM_SECONDS` ago.

    Returns whether it did; always False if the C library is not glibc.
    """
    global _last
    trim = _trimmer()
    with _lock:
        if trim is None or time.monotonic() - _last < TRIM_SECONDS:
            return False
        _last = time.monotonic()
    trim(0)
    return True


@cache
def _trimmer() -> Callable[[int], int] | None:
    """``malloc_trim`` of glibc; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes = [ctypes.c_size_t]
    return trim
