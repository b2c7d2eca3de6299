"""Disks that are full, read-only or missing, and locks of live and dead runs."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from srch_dist.errors import PlanError, StorageError, StorageUnavailableError, is_outage
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage.feature_store import FeatureWriter, open_store
from srch_dist.storage.locks import lease
from srch_dist.storage.locks.file_lock import hold_lock
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.stages import StageLog
from tests.helpers.disks import fill, small_disk
from tests.helpers.faults import OPTIONS
from tests.helpers.runs import make_pairs, train_here


@pytest.mark.fault("full disk (ENOSPC), then space and resume", "survived")
@pytest.mark.parametrize(
    ("owner", "name"), [(StageLog, "commit_unit"), (RunDirectory, "commit_column_group")]
)
def test_full_disk(store, clean, tmp_path, owner, name):
    """The disk is full from the setup on, or from the first commit of an iteration on."""
    real = getattr(owner, name)
    with small_disk(tmp_path / "disk", "size=64m") as disk:

        def filled(*arguments):
            if not (disk / "ballast").exists():
                fill(disk)
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, filled)
            with pytest.raises(StorageUnavailableError, match="No space left on device") as end:
                train_here(store.path, disk / "run", **OPTIONS)
        assert "\n" not in str(end.value)
        with pytest.raises(StorageError, match="not finished"):
            open_run(disk / "run")
        (disk / "ballast").unlink()
        train_here(store.path, disk / "run", **OPTIONS, resume=True)
        clean.assert_same(disk / "run")


@pytest.mark.fault("disk too small for the plan", "refused")
def test_disk_that_is_too_small_is_refused_before_any_work(store, tmp_path):
    with small_disk(tmp_path / "disk", "size=256k") as disk:
        with pytest.raises(PlanError, match=r"needs \d+ MiB of disk.* has 0 MiB free"):
            train_here(store.path, disk / "run", **OPTIONS)
        assert not (disk / "run").exists()


@pytest.mark.fault("full disk during ingest, then space and the same line", "survived")
def test_full_disk_during_ingest(tmp_path, monkeypatch):
    """The disk has enough space at the start; another file fills it before the third block."""
    np.savez(tmp_path / "pairs.npz", **make_pairs())
    clean = ingest_source(tmp_path / "pairs.npz", tmp_path / "a.zarr", rows_per_chunk=20)
    real, calls = FeatureWriter.write, []

    def filled(*arguments):
        calls.append(None)
        if len(calls) == 3:
            fill(tmp_path / "disk")
        return real(*arguments)

    monkeypatch.setattr(FeatureWriter, "write", filled)
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        with pytest.raises(StorageUnavailableError, match="No space left on device"):
            ingest_source(tmp_path / "pairs.npz", disk / "a.zarr", rows_per_chunk=20)
        with pytest.raises(StorageError, match="not a finished feature store"):
            open_store(disk / "a.zarr")
        (disk / "ballast").unlink()
        store = ingest_source(tmp_path / "pairs.npz", disk / "a.zarr", rows_per_chunk=20)
        assert store.checksums == clean.checksums
        assert not list((disk / "a.zarr").rglob("*.partial"))
        for g in clean.modalities:
            np.testing.assert_array_equal(store.read(g), clean.read(g))


@pytest.mark.fault("disk too small for what is ingested", "refused")
def test_disk_that_is_too_small_for_a_store_is_refused_before_it_is_made(tmp_path):
    np.savez(tmp_path / "pairs.npz", **make_pairs(4000))
    with small_disk(tmp_path / "disk", "size=256k") as disk:
        message = r"needs \d+ bytes, but the disk of .* has \d+ bytes free"
        with pytest.raises(StorageError, match=message):
            ingest_source(tmp_path / "pairs.npz", disk / "a.zarr")
        assert list(disk.iterdir()) == []


@pytest.mark.fault("read-only directory", "refused")
def test_read_only_directory(store, tmp_path):
    refused = pytest.raises(StorageError, match=r"cannot write .*read-only for this user")
    with small_disk(tmp_path / "disk", "ro") as disk, refused as end:
        train_here(store.path, disk / "run", **OPTIONS)
    assert not is_outage(end.value)


@pytest.mark.fault("run directory that vanishes", "refused")
@pytest.mark.parametrize(
    ("owner", "name"), [(StageLog, "commit_unit"), (RunDirectory, "commit_column_group")]
)
def test_run_directory_that_vanishes(store, tmp_path, monkeypatch, owner, name):
    real, out = getattr(owner, name), tmp_path / "run"

    def vanish(*arguments):
        if out.exists() and not (tmp_path / "elsewhere").exists():
            out.rename(tmp_path / "elsewhere")
        return real(*arguments)

    monkeypatch.setattr(owner, name, vanish)
    start = time.monotonic()
    with pytest.raises(StorageUnavailableError, match=f"{out} has vanished while it was in use"):
        train_here(store.path, out, **OPTIONS)
    assert time.monotonic() - start < 60
    with pytest.raises(StorageError, match=r"does not exist|not a run directory|not finished"):
        open_run(out)


def test_lock_names_its_holder_and_ends_with_it(tmp_path):
    with hold_lock(tmp_path):
        found = json.loads((tmp_path / "lock.json").read_text())
        assert (found["pid"], found["host"]) == (os.getpid(), socket.gethostname())
        with pytest.raises(StorageError, match=rf"process {os.getpid()} on"), hold_lock(tmp_path):
            pass
    assert not (tmp_path / "lock.json").exists()
    with hold_lock(tmp_path):
        pass


def left_lock(folder: Path, **changes) -> dict:
    """Write the lock file that a killed run leaves behind; return its content."""
    with hold_lock(folder):
        text = (folder / "lock.json").read_text()
    found = {**json.loads(text), **changes}
    (folder / "lock.json").write_text(json.dumps(found))
    return found


@pytest.mark.fault("lock of a dead run", "survived")
@pytest.mark.parametrize(
    "changes",
    [{"pid": 2**22 + 1}, {"started": "1"}, {"boot": "before"}, {"host": "elsewhere"}, None],
    ids=["process is gone", "number used again", "machine restarted", "other host", "cut"],
)
def test_lock_of_a_dead_run_is_taken_over(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.1)
    left_lock(tmp_path, **(changes or {}))
    if changes is None:
        (tmp_path / "lock.json").write_text('{"host": "a"')
    with hold_lock(tmp_path) as held:
        held.check()
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


@pytest.mark.fault("lock of a run on another host", "refused")
@pytest.mark.parametrize("cut", [False, True])
def test_lock_of_a_living_run_elsewhere_is_respected(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 20.0)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.1)
    found = left_lock(tmp_path, host="elsewhere")
    if cut:  # while the holder writes its first heartbeat
        (tmp_path / "lock.json").write_text('{"host": "el')

    def beat():
        time.sleep(0.5)
        (tmp_path / "lock.json").write_text(json.dumps({**found, "beat": 1}))

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(StorageError, match=r"process .* on elsewhere"), hold_lock(tmp_path):
        pass
    thread.join()


@pytest.mark.fault("second run into the same directory", "refused")
def test_run_that_is_just_being_begun_is_left_alone(store, tmp_path):
    """`run.json` exists but is empty. With a live lock, it is not left over from a dead run."""
    out = tmp_path / "run"
    out.mkdir()
    with hold_lock(out):
        (out / "run.json").touch()
        with pytest.raises(StorageError, match="in use by another run"):
            train_here(store.path, out, resume=True, **OPTIONS)
        assert (out / "run.json").exists()
    train_here(store.path, out, resume=True, **OPTIONS)


@pytest.mark.fault("lock lost while the process stood still", "refused")
def test_run_whose_lock_was_taken_over_writes_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with hold_lock(tmp_path) as held:
        held.check()
        held._put = lambda _: None  # as on another host, which does not see this kernel lock
        other = dataclasses.replace(held._holder, token="other")
        (tmp_path / "lock.json").write_text(json.dumps(vars(other)))
        limit = time.monotonic() + 30
        while not held._lost:
            assert time.monotonic() < limit
            time.sleep(0.05)
        with pytest.raises(StorageError, match="taken over"):
            held.check()
    assert json.loads((tmp_path / "lock.json").read_text())["token"] == "other"


CHUNK_DAMAGE = {
    "stale": lambda file: file.write_bytes((file.parents[1] / "0" / "0").read_bytes()),
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "zero-length": lambda file: file.write_bytes(b""),
    "flipped": lambda file: file.write_bytes(
        bytes([file.read_bytes()[0] ^ 4]) + file.read_bytes()[1:]
    ),
}


@pytest.mark.fault("damaged chunk of the data", "refused")
@pytest.mark.parametrize("kind", CHUNK_DAMAGE)
def test_damaged_chunk_of_the_data_is_named(tmp_path, kind):
    np.savez(tmp_path / "pairs.npz", **make_pairs())
    ingest_source(tmp_path / "pairs.npz", tmp_path / "a.zarr", rows_per_chunk=20)
    file = tmp_path / "a.zarr" / "text" / "c" / "1" / "0"
    CHUNK_DAMAGE[kind](file)
    with pytest.raises(StorageError, match=str(tmp_path / "a.zarr" / "text")) as end:
        train_here(tmp_path / "a.zarr", tmp_path / "run", **OPTIONS)
    assert kind == "deleted" or str(file) in str(end.value)
    with pytest.raises(StorageError, match=r"does not exist|not a run directory|not finished"):
        open_run(tmp_path / "run")
