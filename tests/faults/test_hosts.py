"""Several hosts with supervised workers: one link is cut and restored, one host is killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pipelines.faults.cluster import PATIENCE
from pipelines.faults.hosts import network
from pipelines.faults.moments import FOLDER, arm
from tests.helpers.faults import LIMIT, await_fault, options

ROOT = Path(__file__).resolve().parents[2]
# The shortest timeout that Dask accepts for a silent connection.
TIMEOUTS = {**PATIENCE, "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
# Restarts a worker that has closed itself, as a service manager or Kubernetes would.
SUPERVISED = 'while true; do "$@"; sleep 1; done'


@pytest.mark.fault("several hosts: a link cut and restored, a host killed", "survived")
def test_cut_link_and_killed_host(store, clean, tmp_path):
    faults = tmp_path / "faults"
    faults.mkdir()
    environment = {**TIMEOUTS, "PYTHONPATH": str(ROOT), FOLDER: str(faults)}
    arm(faults, "commit", "hold", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        try:
            made = network(f"srch{os.getpid()}", 5)
            hosts = made.__enter__()
        except PermissionError as error:
            pytest.skip(str(error))
        try:
            _train_while_hosts_fail(hosts, store, tmp_path, faults, environment)
        finally:
            made.__exit__(None, None, None)
    clean.assert_same(tmp_path / "run")


def _train_while_hosts_fail(hosts, store, tmp_path, faults, environment):
    """Scheduler on host 1, workers on 2 to 4, client on 5."""
    address = f"tcp://{hosts.address(1)}:8786"
    python = [sys.executable, "-m"]
    scheduler = ["distributed.cli.dask_scheduler", "--host", hosts.address(1), "--no-dashboard"]
    hosts.start(1, [*python, *scheduler], environment, str(tmp_path / "scheduler.log"))
    for host in (2, 3, 4):
        worker = [
            *(*python, "distributed.cli.dask_worker", address, "--nthreads", "1"),
            *("--host", hosts.address(host), "--no-dashboard", "--memory-limit", "1GiB"),
            *("--local-directory", str(tmp_path / f"w{host}"), "--death-timeout", "60"),
            *("--preload", "pipelines.faults.moments"),
        ]
        command = ["sh", "-c", SUPERVISED, "sh", *worker]
        hosts.start(host, command, environment, str(tmp_path / f"worker{host}.log"))
    command = [*python, "pipelines.faults.client", "train", *options(store, tmp_path / "run")]
    command += ["--scheduler", address]
    client = hosts.start(5, command, environment, str(tmp_path / "client.log"))
    await_fault(faults)  # the client blocks before it commits the first iteration
    hosts.cut(2)
    hosts.kill(3)
    (faults / "go").touch()
    time.sleep(20)
    hosts.restore(2)
    assert client.wait(timeout=LIMIT) == 0, (tmp_path / "client.log").read_text()
