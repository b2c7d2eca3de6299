"""Return free heap memory of this process to the operating system (glibc's ``malloc_trim``).

NumPy arrays of up to 32 MiB come from the heap (see `local_cluster.ALLOCATOR`). glibc automatically
returns only free memory at the end of the heap, not free memory below a block in use. So after some
steps, most of the resident heap can be free.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

# Minimum seconds between two trims, because the next use of a returned page is slow: the kernel
# provides it again.
TRIM_SECONDS = 2.0
_lock = threading.Lock()
_last = 0.0


def trim_heap() -> bool:
    """Return free heap memory to the system, unless the last trim was under `TRIM_SECONDS` ago.

    Returns whether memory was trimmed; always False if the C library is not glibc.
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
    """Load the function ``malloc_trim`` of glibc; None with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes = [ctypes.c_size_t]
    return trim
