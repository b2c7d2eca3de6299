"""The lock of a run directory: one run at a time, and none for good by a run that died.

The lock is a file ``lock.json``. Its holder keeps it locked by the kernel (`fcntl.flock`), which
ends with the process, however that ends; and it writes a new beat into it every few seconds, for
hosts that do not see each other's kernel locks. A lock whose beat stands still for as long as a
lease is a dead run's and is taken over; so is one whose process is gone from this host.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from srch_dist.errors import StorageError
from srch_dist.storage.locks.lease import BEAT_SECONDS, LEASE_SECONDS, LOOK_SECONDS, Holder


class RunLock:
    """A held lock; see `hold_lock`."""

    def __init__(self, path: Path, holder: Holder, file: Any) -> None:
        self._path, self._holder, self._file = path, holder, file
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True, name="run-lock")

    def check(self) -> None:
        """Raise StorageError where another run has taken the lock over, as after a long sleep."""
        if self._lost:
            raise StorageError(
                f"{self._path.parent} was taken over by another run while this one stood still; "
                "nothing more is written"
            )

    def _start(self) -> None:
        self._write(0)
        self._thread.start()

    def _release(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            if not self._lost:
                self._path.unlink(missing_ok=True)
            self._file.close()

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT_SECONDS):
            beat += 1
            # A disk that is full or away for a while is the business of those who write data.
            with suppress(OSError):
                found = _read(self._path)
                if not self._path.exists() or (found and found.token != self._holder.token):
                    self._lost = True
                    return
                self._write(beat)

    def _write(self, beat: int) -> None:
        content = self._holder.dump(beat)
        os.pwrite(self._file.fileno(), content, 0)
        os.ftruncate(self._file.fileno(), len(content))


@contextmanager
def hold_lock(folder: Path) -> Iterator[RunLock]:
    """Hold the lock of a run directory that is there.

    Raises
    ------
    StorageError : another run holds it, or the folder cannot be written.
    """
    path = folder / "lock.json"
    try:
        file = _acquire(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    lock = RunLock(path, Holder.here(), file)
    try:
        lock._start()
    except OSError as error:
        file.close()
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        yield lock
    finally:
        lock._release()


def _acquire(path: Path) -> Any:
    """The lock file, locked for this process, once no live holder stands in it."""
    while True:
        file, new = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise _refusal(path, _read(path)) from None
        # A holder that ended meanwhile took the file away, and this lock is on nothing.
        with suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                break
        file.close()
    try:
        if not new:
            _refuse_live(path)
    except BaseException:
        file.close()
        raise
    return file


def _open(path: Path) -> tuple[Any, bool]:
    """The lock file, and whether it was made here."""
    # Not for appending: then every beat would be written behind the one before.
    try:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b"), False
    return os.fdopen(made, "r+b"), True


def _refuse_live(path: Path) -> None:
    """Refuse where the holder in the file lives, as its process or its beat says.

    A file in which nobody can be read may be one that a live run on another host is writing: it
    gets the same lease.
    """
    holder = _read(path)
    if holder and holder.is_here():
        # The kernel's lock was free, so only a file system without such locks gets here alive.
        if holder.is_alive():
            raise _refusal(path, holder)
        return
    end = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        found = _read(path)
        if found is not None and found != holder:
            raise _refusal(path, found)


def _refusal(path: Path, holder: Holder | None) -> StorageError:
    return StorageError(
        f"{path.parent} is in use by another run ({holder or 'it has just begun'}); wait for it to "
        "end, or name another run directory with --out"
    )


def _read(path: Path) -> Holder | None:
    """Who stands in the lock file; None where nobody does."""
    try:
        return Holder.parse(path.read_bytes())
    except OSError:
        return None
