"""Leases: locks that allow one writer at a time, and that expire if the writer dies.

A lock is a JSON document beside the locked location. The document has the holder and a heartbeat:
a number that the holder increases every `BEAT_SECONDS`. A process that finds another process's
document decides as follows:

- Same host and boot: the process table shows whether the holder is alive. A dead holder is
  replaced at once.
- Any other host: the process watches the document for `LEASE_SECONDS`. If the heartbeat changes,
  the holder is alive and the lock is refused. If the heartbeat does not change, the holder is
  replaced.

A paused holder may be replaced. It detects its replacement at its next heartbeat. From then on,
`Lease.check` raises StorageError.

`file_lock` keeps the document on a file system, `object_lock` in an object store.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from srch_dist.errors import StorageError, StorageUnavailableError, is_outage
from srch_dist.storage.locations import Location

_LOG = logging.getLogger("srch_dist")

BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0
# Seconds between two reads of another holder's document.
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes
    ----------
    host, boot : host name, and the kernel's id of this boot ("" outside Linux).
    pid, started : process id, and its start time in clock ticks since boot ("" outside Linux).
    token : random text, one per lock.
    beat : number of the last heartbeat.
    """

    host: str
    boot: str
    pid: int
    started: str
    token: str
    beat: int

    def is_here(self) -> bool:
        """Whether the holder started on this host since its last boot."""
        return (self.host, self.boot) == (socket.gethostname(), _boot_id())

    def is_alive(self) -> bool:
        """Whether the holder's process still runs on this host.

        A later process with the same process id has another start time and does not count.
        """
        return self.started != "" and self.started == _process_start(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @classmethod
    def here(cls) -> Holder:
        """Describe the calling process as a holder, with a new token."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot_id(), pid, _process_start(pid), uuid.uuid4().hex, 0)

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Parse the holder in a lock document; None if the document is incomplete or damaged."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError, RecursionError):
            return None

    def dump(self, beat: int) -> bytes:
        """Format the lock document with heartbeat number ``beat``: one line of JSON."""
        return json.dumps({**self.__dict__, "beat": beat}).encode() + b"\n"


class Reading(NamedTuple):
    """Content of a lock document: the holder (None if unreadable) and the document's version.

    The version changes with every heartbeat.
    """

    holder: Holder | None
    version: Any


class Lease(ABC):
    """Base class of a lock of one location; a subclass reads and writes the lock document.

    Attributes
    ----------
    remedy : end of the error message: what a refused user can do.
    confirms : True to write twice, as a test that the store supports conditional writes.
    """

    remedy: str
    confirms = False

    def __init__(self, place: Location) -> None:
        self._place, self._holder = place, Holder.here()
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")

    @contextmanager
    def hold(self) -> Iterator[Self]:
        """Acquire the lock, hold it in this context, and release it at the end.

        Raises
        ------
        StorageError : another process holds the lock, or the document cannot be written.
        """
        self._acquire()
        try:
            if self.confirms:
                self._lost = not self._write(1)
                self.check()
            self._thread.start()
            yield self
        except (StorageError, FileNotFoundError) as error:
            # An absent file is an error of the input only if the disk is still there.
            if is_outage(error) or not self._vanished():
                raise
            raise self._outage() from None
        finally:
            self._ended.set()
            if self._thread.ident is not None:
                self._thread.join()
            # If the store does not answer, the document remains; its heartbeat no longer changes.
            with suppress(OSError, StorageError):
                self._remove()

    def check(self) -> None:
        """Raise StorageError if another process has replaced this holder, or the disk went away."""
        if self._lost and self._vanished():
            raise self._outage()
        if self._lost:
            raise StorageError(
                f"{self._place} was taken over by another run while this process was paused; this "
                "process writes nothing more"
            )

    def refuse_live(self, first: Reading | None) -> None:
        """Raise StorageError if a lock document's holder is alive; see the rules of this module.

        If the document has no readable holder, a live process may be writing it. The document is
        then watched for `LEASE_SECONDS`, like the document of another host.
        """
        holder = first and first.holder
        if holder is not None and holder.is_here():
            if holder.is_alive():
                raise self.refusal(holder)
            return
        _LOG.warning(
            "lock: %s may be in use by another run (%s); waiting up to %.0f s for a heartbeat",
            self._place,
            holder or "its lock file is not complete",
            LEASE_SECONDS,
        )
        end = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            now = self._read()
            if now is not None and (first is None or now.version != first.version):
                raise self.refusal(now.holder)

    def refusal(self, holder: Holder | None) -> StorageError:
        """Build the error for a location that another process has locked."""
        return StorageError(
            f"{self._place} is in use by another run ({holder or 'it has just started'}); wait for "
            f"it to end, or {self.remedy}"
        )

    def _vanished(self) -> bool:
        """Whether the lock document is absent because the disk went away."""
        return False

    def _outage(self) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"{self._place} has vanished while it was in use; make its disk available, and repeat "
            "the command"
        )

    def _beat(self) -> None:
        beat = int(self.confirms)
        while not self._ended.wait(BEAT_SECONDS) and not self._lost:
            beat += 1
            # The writer of the data reports a store that is full or does not answer.
            with suppress(OSError, StorageError):
                self._lost = not self._write(beat)

    @abstractmethod
    def _acquire(self) -> None:
        """Write the document with heartbeat 0; call `refuse_live` before replacing a document."""

    @abstractmethod
    def _read(self) -> Reading | None:
        """Read the current document; None if it is absent."""

    @abstractmethod
    def _write(self, beat: int) -> bool:
        """Write heartbeat number ``beat``; return False if the document has another holder."""

    @abstractmethod
    def _remove(self) -> None:
        """Close open files. Remove the document if no other process has taken over the lock."""


def _boot_id() -> str:
    """Read the kernel's random id of this boot; "" outside Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    """Read the start time of the process ``pid``, in clock ticks since boot; "" if unknown.

    The start time distinguishes processes that have the same id one after the other.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the command in parentheses, which may hold spaces and parentheses.
    return stat.rsplit(")", 1)[1].split()[19]
