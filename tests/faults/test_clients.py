"""The client is killed, interrupted or loses its scheduler; then the run resumes."""

from __future__ import annotations

import re
import shlex
import signal
import time

import numpy as np
import pytest

from pipelines.faults.cluster import separate_cluster
from pipelines.faults.moments import arm
from srch_dist.errors import StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.run.open import open_run
from tests.helpers.faults import await_fault, begin, command, end, message, options, train
from tests.helpers.runs import make_pairs

TRAINING = [("stage", 3), ("column group", 2), ("commit", 2), ("model", 1), ("finish", 1)]


def start(store, cluster, tmp_path, *more):
    """Run the command on a running cluster, with faults armed for the client."""
    return command(
        "train",
        *options(store, tmp_path / "run"),
        *("--scheduler", cluster.address, *more),
        faults=tmp_path / "armed",
        cwd=tmp_path,
    )


@pytest.mark.fault("kill -9 of the client, then resume", "survived")
@pytest.mark.parametrize(("moment", "call"), TRAINING)
def test_killed_client(store, clean, cluster, tmp_path, moment, call):
    arm(tmp_path / "armed", moment, "kill", call)
    assert start(store, cluster, tmp_path).returncode == -signal.SIGKILL
    with pytest.raises(
        StorageError, match="not finished; repeat its training command with --resume"
    ):
        open_run(tmp_path / "run")
    train(store, tmp_path / "run", cluster, resume=True)
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("kill -9 during ingest, then the same line", "survived")
@pytest.mark.parametrize(("moment", "call"), [("ingest", 2), ("ingested", 1), ("ingest tidied", 1)])
def test_killed_ingest_leaves_no_store_and_goes_on(tmp_path, moment, call):
    np.savez(tmp_path / "pairs.npz", **make_pairs())
    line = ["pairs.npz", "a.zarr", "--rows-per-chunk", "20"]
    arm(tmp_path / "armed", moment, "kill", call)
    done = command("ingest", *line, faults=tmp_path / "armed", cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    if moment != "ingest tidied":  # the store is whole by then
        with pytest.raises(StorageError, match="not a finished feature store; repeat the command"):
            open_store(tmp_path / "a.zarr")
    done = command("ingest", *line, faults=tmp_path / "armed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clean = ingest_source(tmp_path / "pairs.npz", tmp_path / "clean.zarr", rows_per_chunk=20)
    assert open_store(tmp_path / "a.zarr").checksums == clean.checksums
    assert not list((tmp_path / "a.zarr").glob(".*"))


@pytest.mark.fault("SIGINT or SIGTERM of the client, then its own line", "survived")
@pytest.mark.parametrize("deed", ["interrupt", "terminate"])
def test_interrupted_client_says_how_to_go_on(store, clean, cluster, tmp_path, deed):
    arm(tmp_path / "armed", "column group", deed, 2)
    done = start(store, cluster, tmp_path)
    assert done.returncode == 75
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("resume: finished work is kept. Run: python -m srch_dist.train ")
    assert not (tmp_path / "run" / "lock.json").exists()
    arguments = shlex.split(line.split(". Run: ")[1])[3:]
    assert arguments[-1] == "--resume"
    done = command("train", *arguments, faults=tmp_path / "armed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resuming after iteration 1; verifying the stored arrays" in done.stderr
    clean.assert_same(tmp_path / "run")


def held(store, doomed, tmp_path, moment, call):
    """Start a command that blocks at a moment; return it and the file that unblocks it."""
    faults = tmp_path / "armed"
    arm(faults, moment, "hold", call)
    arguments = [*options(store, tmp_path / "run"), "--scheduler", doomed.address]
    process = begin("train", *arguments, faults=faults, cwd=tmp_path)
    await_fault(faults)
    return process, faults / "go"


@pytest.mark.fault("kill -9 of the scheduler, then resume elsewhere", "survived")
def test_killed_scheduler(store, clean, cluster, tmp_path):
    with separate_cluster(tmp_path / "cluster", workers=1) as doomed:
        process, go = held(store, doomed, tmp_path, "commit", 2)
        doomed.scheduler.kill()
        go.touch()
        start = time.monotonic()
        done = end(process)
    assert time.monotonic() - start < 120
    assert done.returncode == 75, done.stderr
    assert "error: the Dask scheduler " in done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"Run: python -m srch_dist\.train .* --resume$", done.stderr.strip())
    train(store, tmp_path / "run", cluster, resume=True)
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("every worker gone, for good", "refused")
def test_cluster_without_workers(store, tmp_path):
    with separate_cluster(tmp_path / "cluster", workers=1) as doomed:
        process, go = held(store, doomed, tmp_path, "stage", 3)
        doomed.kill_workers()
        go.touch()
        start = time.monotonic()
        done = end(process)
    assert time.monotonic() - start < 120
    assert done.returncode == 75, done.stderr
    assert re.search(r"error: the Dask (cluster|scheduler) .*", done.stderr)
    assert done.stderr.strip().endswith("--resume")


@pytest.mark.fault("second run into the same directory", "refused")
def test_second_run_is_refused_while_the_first_one_trains(store, clean, cluster, tmp_path):
    process, go = held(store, cluster, tmp_path, "commit", 1)
    for more in ([], ["--resume"]):
        second = begin(
            "train",
            *options(store, tmp_path / "run"),
            *("--scheduler", cluster.address, *more),
            faults=tmp_path / "none",
            cwd=tmp_path,
        )
        refused = end(second)
        assert refused.returncode == 2
        assert "is in use" in message(refused)
    assert f"by another run (process {process.pid} on " in message(refused)
    go.touch()
    assert end(process).returncode == 0
    clean.assert_same(tmp_path / "run")
