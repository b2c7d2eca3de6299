"""The rule of takeover, on a document in memory."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
import time

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage.locks import lease
from srch_dist.storage.locks.lease import Holder, Lease, Reading


class MemoryLock(Lease):
    """A lock whose document is ``stored["document"]``."""

    remedy = "choose another location"

    def __init__(self, stored: dict) -> None:
        super().__init__("here")
        self._stored = stored

    def _acquire(self):
        if "document" in self._stored:
            self.refuse_live(self._read())
        self._stored["document"] = self._holder.dump(0)

    def _read(self):
        holder = Holder.parse(self._stored["document"])
        return Reading(holder, holder) if holder else None

    def _write(self, beat):
        if self._read().holder.token != self._holder.token:
            return False
        self._stored["document"] = self._holder.dump(beat)
        return True

    def _remove(self):
        if not self._lost:
            del self._stored["document"]


class ConditionalLock(MemoryLock):
    confirms = True


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)


def wait(condition) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def beat_of(stored: dict) -> int:
    return Holder.parse(stored["document"]).beat


@pytest.mark.parametrize("kind", [MemoryLock, ConditionalLock])
def test_held_lock_beats_and_is_removed(kind):
    stored = {}
    with kind(stored).hold() as lock:
        assert beat_of(stored) >= kind.confirms
        wait(lambda: beat_of(stored) > 3)
        lock.check()
    assert stored == {}


def test_holder_of_this_host_is_refused_by_its_process_without_a_wait(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3600.0)
    stored = {"document": Holder.here().dump(1)}
    with (
        pytest.raises(StorageError, match=rf"here is in use .*process {os.getpid()} on .* another"),
        MemoryLock(stored).hold(),
    ):
        pass
    dead = dataclasses.replace(Holder.here(), started="1")
    with MemoryLock({"document": dead.dump(1)}).hold() as lock:
        lock.check()


@pytest.mark.parametrize("content", [None, b'{"host": "els'])
def test_document_of_another_host_is_watched(monkeypatch, content):
    other = dataclasses.replace(Holder.here(), host="elsewhere")
    stored = {"document": content or other.dump(1)}
    with MemoryLock(dict(stored)).hold() as lock:  # its beat stands still
        lock.check()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 60.0)
    ended, beats = threading.Event(), itertools.count(2)

    def beat():
        while not ended.wait(0.05):
            stored["document"] = other.dump(next(beats))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(StorageError, match="on elsewhere"), MemoryLock(stored).hold():
            pass
    finally:
        ended.set()
        thread.join()
    assert Holder.parse(stored["document"]).token == other.token


@pytest.mark.parametrize("kind", [MemoryLock, ConditionalLock])
def test_lock_that_was_taken_over_is_reported_and_not_removed(kind):
    stored = {}
    with kind(stored).hold() as lock:
        other = dataclasses.replace(Holder.here(), token="other")
        wait(lambda: beat_of(stored) > 1)
        lock._write = lambda _: False
        wait(lambda: lock._lost)
        stored["document"] = other.dump(7)
        with pytest.raises(StorageError, match="here was taken over by another run"):
            lock.check()
    assert stored["document"] == other.dump(7)


def test_lock_that_is_lost_at_its_confirmation_is_refused(monkeypatch):
    monkeypatch.setattr(ConditionalLock, "_write", lambda *_: False)
    with pytest.raises(StorageError, match="taken over"), ConditionalLock({}).hold():
        pass


def test_beats_survive_a_store_that_does_not_answer(monkeypatch):
    stored, failures = {}, iter([OSError("away"), StorageError("away")])
    write = MemoryLock._write

    def fail_first(lock, beat):
        for failure in failures:
            raise failure
        return write(lock, beat)

    monkeypatch.setattr(MemoryLock, "_write", fail_first)
    with MemoryLock(stored).hold() as lock:
        wait(lambda: beat_of(stored) > 2)
        lock.check()
