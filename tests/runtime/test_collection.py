"""A client that becomes garbage does not stop the start of the next cluster."""

from __future__ import annotations

import gc

from distributed.utils import LoopRunner

from srch_dist.runtime import local_cluster
from srch_dist.runtime.collection import without_collection


class Lock:
    """Stands for a client in a reference cycle, whose end needs the lock of the loops."""

    def __init__(self, seen: list[bool]) -> None:
        self.me, self.seen = self, seen

    def __del__(self) -> None:
        lock = LoopRunner._lock
        free = lock.acquire(blocking=False)
        self.seen.append(free)
        if free:
            lock.release()


def test_garbage_is_collected_before_the_lock_of_the_loops_is_held(monkeypatch):
    seen: list[bool] = []
    real = LoopRunner._start_unlocked

    def start(self):
        gc_runs.append(gc.isenabled())
        return real(self)

    gc_runs: list[bool] = []
    monkeypatch.setattr(LoopRunner, "_start_unlocked", start)
    Lock(seen)
    with local_cluster._event_loop():
        pass
    assert seen == [True]
    assert gc_runs == [False]
    assert gc.isenabled()


def test_collection_stays_off_where_the_caller_turned_it_off():
    gc.disable()
    try:
        with without_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
