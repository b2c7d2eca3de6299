"""Dask settings with which no worker could work are named before a cluster starts."""

from __future__ import annotations

import re
import subprocess

import dask
import numpy as np
import pytest

from srch_dist.errors import ConfigError
from srch_dist.runtime import cluster
from srch_dist.runtime.cluster import connect, start_local
from srch_dist.runtime.dask_settings import check_local_settings
from tests.helpers.commands import run_command
from tests.helpers.runs import make_pairs

LIMIT = 2 << 30
MEMORY = "distributed.worker.memory"


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        *[
            (f"{MEMORY}.{name}", value, "a share of the memory limit above 0 and up to 1")
            for name in ("target", "spill", "pause", "terminate")
            for value in (0, 0.0, -0.5, 1.01, 95, "0.9", None, True, float("nan"))
        ],
        (f"{MEMORY}.terminate", 0.01, "2048 MiB, is less than the 128 MiB that an idle"),
        (f"{MEMORY}.pause", 0.05, "Write 0.8, or raise --memory-limit"),
        (f"{MEMORY}.monitor-interval", 0, "a time above 0 s, such as 100ms"),
        (f"{MEMORY}.monitor-interval", "often", "a time above 0 s, such as 100ms"),
        (f"{MEMORY}.monitor-interval", None, "a time above 0 s"),
        (f"{MEMORY}.max-spill", 0, "a size such as 10GiB"),
        (f"{MEMORY}.max-spill", "much", "a size such as 10GiB"),
        ("distributed.scheduler.allowed-failures", 0, "one lost worker ends the run"),
        ("distributed.scheduler.allowed-failures", "3", "at least 1"),
        ("distributed.scheduler.idle-timeout", "5s", "a time above 600 s"),
        ("distributed.scheduler.no-workers-timeout", "soon", "a time above 0 s, such as 120s"),
        ("srch-dist.task-timeout", 0, "a time above 0 s"),
        ("distributed.comm.timeouts.connect", "0s", "a time above 0 s, such as 30s"),
        ("distributed.worker.lifetime.duration", "1h", "stop after this time for good"),
    ],
)
def test_a_setting_that_ends_every_worker_is_named(monkeypatch, key, value, problem):
    monkeypatch.setattr(cluster, "local_client", None)  # nothing starts
    refused = pytest.raises(ConfigError, match=re.escape(problem))
    with dask.config.set({key: value}), refused as end, start_local(1):
        pass
    text = str(end.value)
    assert text.startswith(f"the Dask setting {key} is {value!r}; ")
    assert "DASK_" + key.upper().replace(".", "__").replace("-", "_") in text


@pytest.mark.parametrize(
    "values",
    [
        {},
        {f"{MEMORY}.{name}": False for name in ("target", "spill", "pause", "terminate")},
        {f"{MEMORY}.{name}": 1 for name in ("target", "spill", "pause", "terminate")},
        {f"{MEMORY}.target": 0.01, f"{MEMORY}.spill": 0.02, f"{MEMORY}.terminate": 0.2},
        {f"{MEMORY}.max-spill": "10GiB", f"{MEMORY}.monitor-interval": 1},
        {"distributed.scheduler.idle-timeout": "1h", "distributed.scheduler.allowed-failures": 1},
        {"distributed.worker.lifetime": {"duration": "1h", "restart": True, "stagger": 0}},
    ],
)
def test_other_settings_pass(values):
    with dask.config.set(values):
        check_local_settings(LIMIT)


def test_a_small_memory_limit_is_left_to_the_plan():
    check_local_settings(60 << 20)


def test_settings_of_workers_are_not_those_of_a_running_cluster():
    settings = dask.config.set({f"{MEMORY}.terminate": 0, "srch-dist.task-timeout": -1})
    refused = pytest.raises(ConfigError, match="task-timeout")
    with settings, refused, connect("tcp://127.0.0.1:9"):
        pass


@pytest.mark.cluster
@pytest.mark.parametrize("way", ["variable", "YAML"])
def test_a_command_ends_with_code_2_wherever_the_setting_comes_from(tmp_path, way):
    np.savez(tmp_path / "a.npz", **make_pairs())
    assert run_command("ingest", "a.npz", "a.zarr", folder=tmp_path).returncode == 0
    if way == "YAML":
        (tmp_path / "dask.yaml").write_text("distributed: {worker: {memory: {terminate: 0}}}\n")
        variables = {"DASK_CONFIG": str(tmp_path / "dask.yaml")}
    else:
        variables = {"DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0"}
    options = ("--data", "a.zarr", "--out", "run", "--bits", "16", "--workers", "1")
    done: subprocess.CompletedProcess = run_command("train", *options, folder=tmp_path, **variables)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "error: the Dask setting distributed.worker.memory.terminate is 0; "
    )
    assert not (tmp_path / "run").exists()
