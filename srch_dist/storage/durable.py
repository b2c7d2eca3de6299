"""Durability: data reach the disk before the record that marks them as complete.

A commit flushes four things in order: the data, the folders of the data, the record, and the folder
of the record. `flush` does the first two steps, for all data that this host has written.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location

# Some network file systems cannot flush a single folder.
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


def flush(place: Location) -> None:
    """Wait until all data written so far to the file system of ``place`` are on disk.

    One call per commit costs less than one call per file. Does nothing for an object store.

    Raises
    ------
    StorageError : the disk is full or failed.
    """
    if not isinstance(place, Path):
        return
    while not place.exists():
        place = place.parent
    try:
        with _opened(place) as number:
            _flush_filesystem(number)
    except OSError as error:
        raise storage_error("write", place, error) from None


def flush_folder(folder: Path) -> None:
    """Wait until the list of the files in ``folder`` is on disk; raise OSError on failure."""
    with _opened(folder) as number:
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise


def flush_file(path: Path) -> None:
    """Wait until the content of a file is on disk; raise OSError on failure."""
    with _opened(path) as number:
        os.fsync(number)


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents, and wait until their names are on disk.

    Returns the created folders, outermost first. Raises OSError on failure.
    """
    absent = [folder] if not folder.exists() else []
    absent += [above for above in folder.parents if not above.exists()] if absent else []
    folder.mkdir(parents=True, exist_ok=True)
    for new in absent:
        flush_folder(new.parent)
    return absent[::-1]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file or folder for reading and yield its descriptor."""
    number = os.open(path, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def _flush_filesystem(number: int) -> None:
    syncfs = _syncfs()
    if syncfs is None:
        os.sync()
    elif syncfs(number):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@lru_cache(maxsize=1)
def _syncfs() -> Callable[[int], int] | None:
    """Load the C function ``syncfs``, which Python does not offer; None if the system has none."""
    try:
        function: Any = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return None
    return function  # type: ignore[no-any-return]
