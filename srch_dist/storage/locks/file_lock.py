"""Lock of a directory or file on a file system: a lock file with a kernel lock and a lease.

A run directory contains its lock file, ``lock.json``. Any other lock file is beside its target.

The holder locks the file with `fcntl.flock`. The kernel releases this lock when the holder ends,
even if the holder is killed. Hosts of a shared file system may not see each other's kernel locks.
For such hosts, the file also contains the lock document that `lease` describes.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO

from srch_dist.errors import StorageError
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location
from srch_dist.storage.locks.lease import Holder, Lease, Reading


def hold_lock(folder: Path) -> AbstractContextManager[Lease]:
    """Lock an existing run directory in a context; see `Lease.hold`."""
    return FileLock(folder, folder / "lock.json", "choose another run directory with --out").hold()


def live_holder(folder: Location) -> Holder | None:
    """Return the live process of this host that holds a directory's lock; None if there is none."""
    try:
        holder = Holder.parse((folder / "lock.json").read_bytes())
    except OSError:
        return None
    return holder if holder and holder.is_here() and holder.is_alive() else None


class FileLock(Lease):
    """Lock of the location ``place``, stored in the file ``path``.

    Parameters
    ----------
    remedy : end of the error message: what a refused user can do.
    """

    def __init__(self, place: Path, path: Path, remedy: str) -> None:
        super().__init__(place)
        self.remedy = remedy
        self._path = path
        self._file: BinaryIO

    def _acquire(self) -> None:
        try:
            created = self._lock_file()
            try:
                # With the kernel lock, a live holder can only be on another host, or on a file
                # system that has no kernel locks.
                if not created:
                    self.refuse_live(self._read())
                self._put(0)
            except BaseException:
                if created:  # such as on a full disk; an empty lock would delay the next process
                    self._path.unlink(missing_ok=True)
                self._file.close()
                raise
        except OSError as error:
            raise storage_error("write", self._path, error, first=True) from None

    def _lock_file(self) -> bool:
        """Open the lock file and take its kernel lock; return whether the file is new."""
        while True:
            # Not in append mode, which would write each heartbeat after the previous one.
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                created = True
            except FileExistsError:
                self._refuse_link()
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
                created = False
            self._file = os.fdopen(file, "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                now = self._read()
                raise self.refusal(now and now.holder) from None
            # A holder that ended meanwhile removed the file; this lock is then on a deleted file.
            with suppress(FileNotFoundError):
                if os.fstat(file).st_ino == self._path.stat().st_ino:
                    return created
            self._file.close()

    def _refuse_link(self) -> None:
        """Raise StorageError if the lock file is a link: a write would change another file."""
        with suppress(FileNotFoundError):
            found = self._path.lstat()
            if stat.S_ISLNK(found.st_mode) or found.st_nlink > 1:
                raise StorageError(
                    f"{self._path} is a link to another file, not a lock. Remove the link, if "
                    "nobody else needs it."
                )

    def _read(self) -> Reading | None:
        try:
            holder = Holder.parse(self._path.read_bytes())
        except OSError:
            return None
        # Heartbeats are written in place. A partly written one does not count as a new heartbeat.
        return Reading(holder, holder) if holder else None

    def _write(self, beat: int) -> bool:
        now = self._read()
        if not self._path.exists() or (now and now.version.token != self._holder.token):
            return False
        self._put(beat)
        return True

    def _vanished(self) -> bool:
        try:
            # A removed file has no name left. On a disk that went away, the file still has a name.
            return not self._path.exists() and os.fstat(self._file.fileno()).st_nlink > 0
        except OSError:
            return True

    def _put(self, beat: int) -> None:
        content = self._holder.dump(beat)
        os.pwrite(self._file.fileno(), content, 0)
        os.ftruncate(self._file.fileno(), len(content))

    def _remove(self) -> None:
        try:
            if not self._lost:
                self._path.unlink(missing_ok=True)
        finally:
            self._file.close()
