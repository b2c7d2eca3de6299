"""Locks of places at s3://: one writer at a time, and none for good by a dead one."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from srch_dist.errors import StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage.locations import locate
from srch_dist.storage.locks import lease
from srch_dist.storage.locks.output_lock import hold_output
from tests.helpers.faults import OPTIONS
from tests.helpers.runs import train_here
from tests.helpers.s3 import BUCKET, DATA, place

pytestmark = pytest.mark.usefixtures("s3_environment")


@pytest.mark.fault("S3: second run into a place", "refused")
def test_second_run_is_refused(server, store, tmp_path):
    source = Path(store.path).parent / "pairs.npz"
    with hold_output(locate(place("runs/held"))), hold_output(locate(place("held.zarr"))):
        before = server.objects()
        with pytest.raises(StorageError, match=r"runs/held is in use by another run \(process"):
            train_here(DATA, place("runs/held"), **OPTIONS, work=str(tmp_path / "run"))
        with pytest.raises(StorageError, match=r"held.zarr is in use by another run"):
            ingest_source(source, place("held.zarr"))
        assert server.objects().keys() == before.keys()
        assert not (tmp_path / "run").exists()
    assert not [key for key in server.objects() if key.endswith(".lock")]
    ingest_source(source, place("held.zarr"))


@pytest.mark.fault("S3: runs that start at once", "refused")
def test_of_those_that_begin_at_once_one_holds_the_place():
    barrier, held, refused = threading.Barrier(6), [], []

    def begin(_):
        barrier.wait()
        try:
            with hold_output(locate(place("race"))):
                held.append(1)
                done.wait(30)
        except StorageError as error:
            refused.append(str(error))
            if len(refused) == 5:
                done.set()

    done = threading.Event()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(begin, range(6)))
    assert len(held) == 1
    assert all("is in use by another run" in error for error in refused)


def left_lock(server, name: str, **changes) -> tuple[str, lease.Holder]:
    """Store the lock that a killed run leaves behind; return its key and holder."""
    holder = dataclasses.replace(lease.Holder.here(), **changes)
    key = f".{name}.lock"
    server.client().put_object(Bucket=BUCKET, Key=key, Body=holder.dump(3))
    return key, holder


@pytest.mark.fault("S3: lock of a dead run", "survived")
@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"host": "elsewhere"}])
def test_lock_of_a_dead_run_is_taken_over(server, s3_environment, changes):
    s3_environment.setattr(lease, "LEASE_SECONDS", 1.0)
    s3_environment.setattr(lease, "LOOK_SECONDS", 0.1)
    key, left = left_lock(server, "dead", **changes)
    with hold_output(locate(place("dead"))) as check:
        check()
        found = lease.Holder.parse(server.objects(key)[key])
        assert (found.token != left.token, found.pid) == (True, lease.Holder.here().pid)
    assert key not in server.objects()


@pytest.mark.fault("S3: lock of a run on another host", "refused")
def test_lock_of_a_living_run_elsewhere_is_respected(server, s3_environment):
    s3_environment.setattr(lease, "LOOK_SECONDS", 0.1)
    key, holder = left_lock(server, "alive", host="elsewhere")
    beat = threading.Timer(
        0.5, lambda: server.client().put_object(Bucket=BUCKET, Key=key, Body=holder.dump(4))
    )
    beat.start()
    with pytest.raises(StorageError, match="on elsewhere"), hold_output(locate(place("alive"))):
        pass
    beat.join()
    assert lease.Holder.parse(server.objects(key)[key]) == dataclasses.replace(holder, beat=4)
    server.client().delete_object(Bucket=BUCKET, Key=key)


@pytest.mark.fault("S3: lock lost while the process stood still", "refused")
def test_writer_whose_lock_was_taken_over_writes_nothing_more(server, s3_environment):
    s3_environment.setattr(lease, "BEAT_SECONDS", 0.05)
    with hold_output(locate(place("lost"))) as check:
        check()
        key, _ = left_lock(server, "lost", token="other")
        time.sleep(2)  # many heartbeats
        with pytest.raises(StorageError, match="taken over by another run"):
            check()
    assert lease.Holder.parse(server.objects(key)[key]).token == "other"
    server.client().delete_object(Bucket=BUCKET, Key=key)
