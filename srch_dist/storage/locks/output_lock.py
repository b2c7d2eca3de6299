"""Lock of an output: while a process writes to a location, other processes are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from srch_dist.storage.atomic_files import is_stream, remove_partials
from srch_dist.storage.durable import make_folder
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, S3Path
from srch_dist.storage.locks.file_lock import FileLock
from srch_dist.storage.locks.object_lock import ObjectLock


@contextmanager
def hold_output(place: Location) -> Iterator[Callable[[], None]]:
    """Lock an output while this context writes to it; yield the function `Lease.check`.

    An output is a file, an array or a store.

    The lock is a file or object ``.NAME.lock`` beside ``place``. Missing parent folders of a local
    path are created; they are removed again if nothing is written. Devices and pipes have no lock.

    Raises
    ------
    StorageError : another process holds the lock, or the folder of ``place`` cannot be written.
    """
    if isinstance(place, S3Path):
        with ObjectLock(place, place.parent / f".{place.name}.lock").hold() as lease:
            yield lease.check
        return
    if is_stream(place):
        yield lambda: None
        return
    try:
        created = make_folder(place.parent)
    except OSError as error:
        raise storage_error("write", place, error, first=True) from None
    try:
        path = place.with_name(f".{place.name}.lock")
        with FileLock(place, path, "choose another output").hold() as lease:
            remove_partials(place)
            yield lease.check
    finally:
        with suppress(OSError):  # not empty
            for folder in reversed(created):
                folder.rmdir()
