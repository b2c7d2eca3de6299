"""Reading ahead of the work, and what is known of processes."""

import importlib
import os
import sys
import threading
import weakref

import distributed
import numpy as np
import pytest

from srch_dist.runtime import memory, tasks, workers
from srch_dist.runtime.cluster import connect
from srch_dist.runtime.memory import peak_bytes
from srch_dist.storage.read_ahead import read_ahead


def test_items_come_in_order_and_the_next_is_read_during_the_work():
    begun = [threading.Event() for _ in range(4)]

    def read(item):
        begun[item].set()
        return item

    for item in read_ahead(read, [0, 1, 2, 3]):
        following = min(item + 1, 3)
        assert begun[following].wait(10)
        assert not any(event.is_set() for event in begun[item + 2 :])
    assert all(event.is_set() for event in begun)


def test_never_more_than_two_items_are_in_memory():
    alive = []

    class Block(np.ndarray):
        pass

    def read(_):
        block = np.zeros(8).view(Block)
        alive.append(weakref.ref(block))
        assert sum(ref() is not None for ref in alive) <= 2
        return block

    total = 0
    for block in read_ahead(read, range(6)):
        total += len(block)
        del block
    assert total == 48


def test_what_goes_wrong_in_reading_is_raised_in_the_work():
    def read(item):
        if item == 1:
            raise ValueError("row 1")
        return item

    found = []
    with pytest.raises(ValueError, match="row 1"):
        found.extend(read_ahead(read, [0, 1, 2]))


def _environment():
    return dict(os.environ)


def test_local_workers_keep_freed_memory_have_one_thread_and_peaks_of_their_own(monkeypatch):
    # Variables of this process come first, and a cluster that was started here leaves some.
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    ballast = np.ones(100 << 20)  # 800 MiB in this process
    del ballast
    with connect(workers=1):
        client = distributed.default_client()
        (found,) = client.run(_environment).values()
        (peak,) = client.run(peak_bytes).values()
    assert int(found["MALLOC_TRIM_THRESHOLD_"]) == 64 << 20
    assert int(found["MALLOC_MMAP_THRESHOLD_"]) == 32 << 20
    assert found["OMP_NUM_THREADS"] == "1"
    assert peak_bytes() > 800 << 20 > peak


class Counter:
    """A stage that counts."""

    steps = 0

    def advance(self, steps=1):
        self.steps += steps


@pytest.mark.parametrize("count", [1, 9])
def test_sum_of_calls_counts_each_call_and_the_sum(count):
    stage = Counter()
    calls = [(np.multiply, number, np.arange(3)) for number in range(count)]
    total = tasks.run_sum(calls, stage)
    np.testing.assert_array_equal(total, sum(range(count)) * np.arange(3))
    assert stage.steps == count + 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep one peak a process")
def test_peaks_are_those_of_a_stage():
    spent = memory.StageProfiler()
    with spent.of("large"):
        assert np.ones(30 << 20).sum() == 30 << 20
    with spent.of("small"):
        pass
    large, small = spent.peaks["large"]["client"], spent.peaks["small"]["client"]
    assert large - small > 200 << 20
    assert spent.peak() == {"client": large}
    assert set(spent.seconds) == {"large", "small"}


def test_workers_that_have_imported_a_module_start_anew_where_nobody_else_uses_them():
    with connect(workers=1) as cluster:
        client = distributed.default_client()
        before = client.run(os.getpid)
        assert cluster.restarts
        workers.restart_workers("tabnanny")
        assert client.run(os.getpid) == before
        client.run(importlib.import_module, "tabnanny")
        workers.restart_workers("tabnanny")
        after = client.run(os.getpid)
        assert len(after) == 1
        assert set(before.values()).isdisjoint(after.values())
        address = client.scheduler.address
        with distributed.Client(address), connect(scheduler=address) as shared:
            assert not shared.restarts


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep one peak a process")
def test_peaks_of_a_stage_are_those_of_the_workers_before_a_restart_too():
    spent = memory.StageProfiler()
    with connect(workers=1):
        client = distributed.default_client()
        with spent.of("restarted"):
            client.submit(_fill, 30 << 20).result()
            spent.restart_workers("numpy")
        with spent.of("after"):
            client.run(os.getpid)
    before, after = (spent.peaks[name]["worker"] for name in ("restarted", "after"))
    assert before - after > 200 << 20


def _fill(count: int) -> float:
    return float(np.ones(count).sum())


_LOOKS: list[int] = []


def _look_that_fails_once() -> int:
    _LOOKS.append(len(_LOOKS))
    if _LOOKS[-1] == 1:
        raise OSError("connection to the worker was closed")
    return 1000 + _LOOKS[-1]


def _where() -> str:
    return distributed.get_worker().address


def test_tasks_run_on_the_worker_of_their_number_and_on_another_where_it_is_gone():
    with connect(None, 2, "1GiB"):
        client = distributed.default_client()
        workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        work = []
        for number in (1, 0, 1, 2, 1):
            with tasks.on_worker(number):
                work.append(tasks.task(_where))
        assert tasks.run_all(work) == [workers[n % 2] for n in (1, 0, 1, 2, 1)]
        with tasks.on_worker(1):
            late = tasks.task(_where)
        client.retire_workers([workers[1]])
        assert tasks.run_one(late) == workers[0]


def test_without_a_client_tasks_run_wherever():
    with tasks.on_worker(3):
        left = tasks.task(int, 7)
    assert tasks.run_one(left) == 7


def test_worker_that_goes_away_while_memory_is_looked_at_ends_nothing(monkeypatch):
    """The command itself is looked at first, then both workers."""
    _LOOKS.clear()
    monkeypatch.setattr(memory, "peak_bytes", _look_that_fails_once)
    with distributed.Client(processes=False, n_workers=2, dashboard_address=":0"):
        assert memory.peak_memory() == {"client": 1000, "worker": 1002}
