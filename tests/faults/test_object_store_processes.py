"""Stores at s3:// with scheduler, workers and commands in separate processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.faults.cluster import separate_cluster
from pipelines.faults.moments import arm
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.run.open import open_run
from tests.helpers.faults import await_fault, begin, command, end, message, options
from tests.helpers.s3 import BUCKET, DATA

OUT = f"s3://{BUCKET}/run"


@pytest.mark.fault("S3: kill -9 of server and worker in mid-run, then encode", "survived")
def test_cluster_comes_through(server, clean, tmp_path):
    with separate_cluster(tmp_path / "cluster") as cluster:
        arm(cluster.faults, "set aside", "kill", 2)
        server.script("die", 60)
        thread = server.restart_when_dead(2)
        given = [*options(open_store(DATA), Path("out")), "--work", str(tmp_path / "work")]
        given[given.index("--out") + 1] = OUT
        reached = ("--scheduler", cluster.address)
        place = {"faults": tmp_path / "armed", "cwd": tmp_path}
        done = command("train", *given, *reached, **place)
        assert done.returncode == 0, done.stderr
        thread.join()
        clean.assert_same(tmp_path / "work")
        codes = f"s3://{BUCKET}/codes.zarr"
        encoding = ("--model", OUT, "--data", DATA, "--modality", "text", "--out", codes)
        done = command("encode", *encoding, *reached, **place)
        assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(arrays.read_rows(open_run(OUT).codes), clean.codes)
    found = ("--model", OUT, "--codes", codes, "--query", "7", "--top", "1", "--json")
    done = command("search", *found, **place)
    assert json.loads(done.stdout)[0]["results"][0]["distance"] == 0
    for content in server.objects().values():
        assert server.full[1].encode() not in content


@pytest.mark.fault("S3: workers without credentials", "refused")
def test_workers_without_access_are_named(server, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        server.use(patch, ("nobody", "a-wrong-secret"))
        cluster = separate_cluster(tmp_path / "cluster", workers=1)
        running = cluster.__enter__()
    try:
        given = [*options(open_store(DATA), tmp_path / "run"), "--scheduler", running.address]
        done = command("train", *given, faults=tmp_path / "armed", cwd=tmp_path)
    finally:
        cluster.__exit__(None, None, None)
    assert done.returncode == 2
    assert "do not see s3://bucket/pairs.zarr" in message(done)
    assert "credentials are wrong" in message(done)
    assert "a-wrong-secret" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("S3: second command into a place; kill -9 of the first", "refused")
def test_second_command_is_refused_and_a_dead_one_is_not_in_the_way(server, store, tmp_path):
    source, place = Path(store.path).parent / "pairs.npz", f"s3://{BUCKET}/second.zarr"
    arm(tmp_path / "armed", "ingest", "hold")
    first = begin("ingest", source, place, faults=tmp_path / "armed", cwd=tmp_path)
    try:
        await_fault(tmp_path / "armed")
        done = command("ingest", source, place, faults=tmp_path / "other", cwd=tmp_path)
        assert done.returncode == 2
        assert f"{place} is in use by another run (process {first.pid} on" in message(done)
    finally:
        first.kill()
        end(first)
    assert ".second.zarr.lock" in server.objects()
    done = command("ingest", source, place, faults=tmp_path / "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert open_store(place).checksums == store.checksums
    assert ".second.zarr.lock" not in server.objects()
