"""The lock of an output: of two processes that write one place, the second is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import is_stream, remove_partials
from srch_dist.storage.durable import make_folder
from srch_dist.storage.locations import Location, S3Path
from srch_dist.storage.locks.file_lock import FileLock
from srch_dist.storage.locks.object_lock import ObjectLock


@contextmanager
def hold_output(place: Location) -> Iterator[Callable[[], None]]:
    """Hold a file, array or store that this process writes, and yield its `Lease.check`.

    The lock is an object or a file ``.NAME.lock`` beside the place. Folders above a local place are
    created, and removed again if nothing is written. A device or a pipe needs no lock.

    Raises
    ------
    StorageError : another process holds the place, or its folder cannot be written.
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
        raise StorageError(f"cannot write {place}: {error.strerror or error}") from None
    try:
        path = place.with_name(f".{place.name}.lock")
        with FileLock(place, path, "name another output").hold() as lease:
            remove_partials(place)
            yield lease.check
    finally:
        with suppress(OSError):  # not empty
            for folder in reversed(created):
                folder.rmdir()
