"""Workers die, hang or run out of memory during training and encoding."""

from __future__ import annotations

import re
import time

import dask
import distributed
import numpy as np
import pytest

from pipelines.faults.moments import WORKER_MOMENTS, arm, happened
from srch_dist.encode.batch import encode_store
from srch_dist.errors import ClusterError, WorkersKilledError
from srch_dist.runtime import watchdog
from srch_dist.runtime.cluster import connect
from srch_dist.storage import arrays
from tests.helpers.faults import LIMIT, train


@pytest.mark.fault("kill -9 of a worker, in every phase", "survived")
@pytest.mark.parametrize("moment", [m for m in WORKER_MOMENTS if m != "encode"])
def test_killed_worker(store, clean, cluster, faults, tmp_path, moment):
    arm(faults, moment, "kill")
    train(store, tmp_path / "run", cluster)
    assert happened(faults) == 1
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("kill -9 of a worker during encode", "survived")
def test_killed_worker_during_encode(store, cluster, faults, tmp_path):
    train(store, tmp_path / "run", cluster)
    found = []
    for name in ("a", "b"):
        if name == "b":
            arm(faults, "encode", "kill")
        with connect(cluster.address):
            path = encode_store(tmp_path / "run", store.path, "image", tmp_path / name)
        found.append(arrays.read_rows(path))
    assert happened(faults) == 1
    np.testing.assert_array_equal(*found)


@pytest.mark.fault("SIGTERM of a worker (preemption)", "survived")
@pytest.mark.parametrize("moment", ["edges", "codes"])
def test_terminated_worker(store, clean, cluster, faults, tmp_path, moment):
    arm(faults, moment, "terminate")
    train(store, tmp_path / "run", cluster)
    assert happened(faults) == 1
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("out-of-memory kill of a worker (exit code 137)", "survived")
def test_exhausted_worker(store, clean, cluster, faults, tmp_path):
    arm(faults, "solve", "exhaust", call=3)
    train(store, tmp_path / "run", cluster)
    assert happened(faults) == 1
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("workers killed one after the other (3 of them)", "survived")
def test_several_kills(store, clean, cluster, faults, tmp_path):
    for moment in ("gather", "store z", "spread"):
        arm(faults, moment, "kill")
    train(store, tmp_path / "run", cluster)
    assert happened(faults) == 3
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("hung worker (SIGSTOP)", "survived")
def test_hung_worker(store, clean, cluster, faults, tmp_path):
    arm(faults, "weights", "stop")
    train(store, tmp_path / "run", cluster)
    assert happened(faults) == 1
    clean.assert_same(tmp_path / "run")


@pytest.fixture
def impatient(monkeypatch):
    """Tasks time out after 15 s, of which imports in a new worker use a part."""
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 1.0)
    with dask.config.set({watchdog.TASK_TIMEOUT: "15s"}):
        yield


@pytest.mark.usefixtures("impatient")
@pytest.mark.fault("a task hangs in a worker whose heartbeat goes on", "survived")
def test_hung_task(store, clean, cluster, faults, tmp_path):
    arm(faults, "codes", "hang")
    train(store, tmp_path / "run", cluster)
    assert happened(faults) == 1
    clean.assert_same(tmp_path / "run")


@pytest.mark.usefixtures("impatient")
@pytest.mark.fault("a task hangs in every worker", "refused")
def test_task_that_hangs_everywhere_is_given_up(store, clean, cluster, faults, tmp_path):
    armed = arm(faults, "edges", "hang", once=False)
    start = time.monotonic()
    with pytest.raises(ClusterError, match=r"task _\w+ has run for more than 15 s in 2 workers"):
        train(store, tmp_path / "run", cluster)
    assert time.monotonic() - start < LIMIT
    armed.unlink()
    with distributed.Client(cluster.address) as client:  # some workers still hang
        client.restart_workers(list(client.scheduler_info(n_workers=-1)["workers"]), timeout=LIMIT)
    train(store, tmp_path / "run", cluster, resume=True)
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("a task that no worker survives", "refused")
def test_task_that_kills_every_worker_is_explained(store, clean, cluster, faults, tmp_path):
    armed = arm(faults, "codes", "exhaust", once=False)
    start = time.monotonic()
    with pytest.raises(WorkersKilledError) as end:
        train(store, tmp_path / "run", cluster)
    assert time.monotonic() - start < LIMIT
    text = str(end.value)
    assert re.search(r"4 workers were killed one after the other by the task _update_\w+;", text)
    assert "the plan expects" in text
    assert "the limit of a worker is 1024 MiB. Give workers more memory (--memory-limit)" in text
    armed.unlink()
    train(store, tmp_path / "run", cluster, resume=True)
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("a task over the memory limit", "refused")
def test_memory_limit_too_small_for_a_task(store, faults, tmp_path, cluster):
    arm(faults, "edges", "fill memory", once=False)
    with pytest.raises(WorkersKilledError, match=r"workers were killed .* by the task"):
        train(store, tmp_path / "run", cluster)
    with distributed.Client(cluster.address) as client:
        client.wait_for_workers(2, timeout=LIMIT)
