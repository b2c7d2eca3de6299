"""The lock of a place in an object store: one writer at a time, and none for good by a dead one.

The lock is an object beside the place, made only where there is none (``If-None-Match: *``). Its
holder writes a new beat into it every few seconds, on condition that it is still as it was left
(``If-Match``). One whose beat stands still for as long as a lease is a dead writer's, and is taken
over on the same condition, so that of two that try one succeeds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from srch_dist.errors import StorageError
from srch_dist.storage.locations import Location, S3Path
from srch_dist.storage.locks import lease
from srch_dist.storage.locks.lease import Holder


class ObjectLock:
    """A held lock; see `hold_place`."""

    def __init__(self, place: S3Path, path: S3Path, version: str, holder: Holder) -> None:
        self._place, self._path, self._version, self._holder = place, path, version, holder
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True, name="object-lock")

    def check(self) -> None:
        """Raise StorageError where another writer has taken the lock over."""
        if self._lost:
            raise StorageError(
                f"{self._place} was taken over by another run while this one stood still; nothing "
                "more is written"
            )

    def start(self) -> None:
        """Beat from now on; the first beat shows whether the server keeps conditions."""
        self._write(1)
        self._thread.start()

    def release(self) -> None:
        """Remove the lock, unless another holds it."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self._lost:
            # A server that is away leaves a lock without beats.
            with suppress(StorageError):
                self._path.unlink()

    def _beat(self) -> None:
        beat = 1
        while not self._ended.wait(lease.BEAT_SECONDS) and not self._lost:
            beat += 1
            # A server that is away for a while is the business of those who write data.
            with suppress(StorageError):
                self._write(beat)

    def _write(self, beat: int) -> None:
        version = self._path.put_if(self._holder.dump(beat), self._version)
        if version is not None:
            self._version = version
        elif not self._is_own():
            self._lost = True

    def _is_own(self) -> bool:
        """Whether a beat was written of which the answer was lost; its version is the one now."""
        try:
            content, version = self._path.read_version()
        except FileNotFoundError:
            return False
        found = Holder.parse(content)
        if found is None or found.token != self._holder.token:
            return False
        self._version = version
        return True


@contextmanager
def hold_place(place: Location) -> Iterator[Callable[[], None]]:
    """Hold a place that one process alone writes to, and give its `ObjectLock.check`.

    A local place has no lock of this kind.

    Raises
    ------
    StorageError : another process holds it, or the server does not take the lock.
    """
    if not isinstance(place, S3Path):
        yield lambda: None
        return
    path = place.parent / f".{place.name}.lock"
    holder = Holder.here()
    held = ObjectLock(place, path, _acquire(place, path, holder), holder)
    try:
        held.start()
        held.check()
        yield held.check
    finally:
        held.release()


def _acquire(place: S3Path, path: S3Path, holder: Holder) -> str:
    """The version of the lock once it is this process's."""
    own = holder.dump(0)
    version = path.put_if(own, None)
    if version is None:
        try:
            content, found = path.read_version()
        except FileNotFoundError:  # released meanwhile
            version = path.put_if(own, None)
        else:
            if content == own:  # written, and the answer lost
                return found
            _refuse_live(place, path, Holder.parse(content), found)
            version = path.put_if(own, found)
    if version is None:
        raise _refusal(place, None)
    return version


def _refuse_live(place: S3Path, path: S3Path, holder: Holder | None, version: str) -> None:
    """Refuse where a lock's holder lives, as its process or its beat says."""
    if holder is not None and holder.is_here():
        if holder.is_alive():
            raise _refusal(place, holder)
        return
    end = time.monotonic() + lease.LEASE_SECONDS
    while time.monotonic() < end:
        time.sleep(lease.LOOK_SECONDS)
        with suppress(FileNotFoundError):
            content, now = path.read_version()
            if now != version:
                raise _refusal(place, Holder.parse(content))


def _refusal(place: S3Path, holder: Holder | None) -> StorageError:
    return StorageError(
        f"{place} is in use by another run ({holder or 'it has just begun'}); wait for it to end, "
        "or name another place"
    )
