"""Peaks of memory: of this process and of workers, by stage."""

import os
import sys

import distributed
import numpy as np
import pytest

from srch_dist.runtime import memory
from srch_dist.runtime.cluster import connect
from srch_dist.runtime.memory import peak_bytes

pytestmark = pytest.mark.cluster


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


def test_worker_that_goes_away_while_memory_is_looked_at_ends_nothing(monkeypatch):
    """The command itself is looked at first, then both workers."""
    _LOOKS.clear()
    monkeypatch.setattr(memory, "peak_bytes", _look_that_fails_once)
    with distributed.Client(processes=False, n_workers=2, dashboard_address=":0"):
        assert memory.peak_memory() == {"client": 1000, "worker": 1002}
