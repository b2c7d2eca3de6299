"""A run that lives in an object store alone: results of a run on a disk, also after each kill."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

from srch_dist.encode.batch import encode_store
from srch_dist.errors import ConfigError, StorageError
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.storage import arrays
from srch_dist.storage.locations import S3Path
from srch_dist.storage.run.checkpoint_store import CheckpointStore
from srch_dist.storage.run.records import RunRecords
from srch_dist.storage.run.stages import StageLog
from tests.helpers import killed_runs
from tests.helpers.killed_runs import Killed
from tests.helpers.memory_bucket import memory_bucket
from tests.helpers.runs import make_pairs, make_store, train_here

RUN = "s3://bucket/runs/first"
RESULTS = {"codes.zarr", "config.yaml", "history.jsonl", "model.npz", "plan.json", "rows.zarr"}
OPTIONS = {
    **killed_runs.OPTIONS,
    "method": {**killed_runs.OPTIONS["method"], "iterations": 2},
}
# Options that use each kind of stored array.
KINDS = {
    "plain": {},
    "graph in scratch files": {"spill": "on", "cache": "off"},
    "one block": {"spill": "on", "blocks": 1, "columns": 16},
    "partitioned search": {"graph": {"k": 5, "method": "partitioned", "cluster_rows": 24}},
    "order": {"graph": {"k": 5, "order_rows": 16}},
}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"), 25, **make_pairs())


@pytest.fixture
def bucket():
    with memory_bucket():
        yield S3Path("bucket", "runs/first")


@pytest.fixture(scope="module")
def local(store, tmp_path_factory):
    return train_here(store.path, tmp_path_factory.mktemp("local") / "run", **OPTIONS).run


def assert_results(bucket: S3Path, local) -> None:
    """The run in the bucket has the results of the run on a disk, and nothing else."""
    for name in ("codes.zarr", "rows.zarr"):
        found = arrays.read_rows(bucket / name)
        np.testing.assert_array_equal(found, arrays.read_rows(local.path / name))
    names = {path.key.removeprefix("runs/first/").split("/")[0] for path in bucket.files()}
    assert names == RESULTS | {"bits.npz", "run.json"}
    assert not (bucket.parent / ".first.lock").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_a_run_on_a_disk(bucket, store, tmp_path, kind):
    options = {**OPTIONS, **KINDS[kind]}
    expected = train_here(store.path, tmp_path / "run", **options).run
    train_here(store.path, RUN, **options)
    assert_results(bucket, expected)


@pytest.mark.usefixtures("bucket")
def test_finished_run_is_encoded_and_evaluated(store, local, tmp_path):
    trained = train_here(store.path, RUN, **{**OPTIONS, "evaluate": True})
    assert str(trained.run.path) == RUN
    expected = evaluate_model(local.path, store.path)
    assert trained.evaluation == expected == evaluate_model(RUN, store.path)
    codes = encode_store(RUN, store.path, "text", "s3://bucket/codes")
    own = encode_store(local.path, store.path, "text", tmp_path / "codes")
    np.testing.assert_array_equal(arrays.read_rows(codes), arrays.read_rows(own))


def test_second_run_is_refused_or_shown(bucket, store):
    train_here(store.path, RUN, **OPTIONS)
    before = {path: path.read_bytes() for path in bucket.files()}
    with pytest.raises(StorageError, match="holds a finished run; choose another"):
        train_here(store.path, RUN, **OPTIONS)
    with pytest.raises(ConfigError, match="seed is 7, the run has 0"):
        train_here(store.path, RUN, **OPTIONS, seed=7, resume=True)
    again = train_here(store.path, RUN, **OPTIONS, resume=True)
    assert str(again.run.path) == RUN
    assert {path: path.read_bytes() for path in bucket.files()} == before


def test_scratch_is_for_object_stores(store, tmp_path):
    with pytest.raises(ConfigError, match="'scratch' is '1GiB', but 'out' is not an s3:// URL"):
        train_here(store.path, tmp_path / "run", **OPTIONS, scratch="1GiB")
    with pytest.raises(ConfigError, match="scratch is 'much'; write for example 2GiB"):
        train_here(store.path, RUN, **OPTIONS, scratch="much")


@contextmanager
def killed_at(owner, name: str, call: int, after: bool):
    """End the process at a call of a method: before the method, or after it."""
    real, calls = getattr(owner, name), Counter()

    def counted(*arguments):
        calls[name] += 1
        if calls[name] == call and not after:
            raise Killed
        result = real(*arguments)
        if calls[name] == call:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield


MOMENTS = [
    *((StageLog, "commit", call) for call in (1, 3, 5)),
    (StageLog, "commit_unit", 6),
    (CheckpointStore, "commit_column_group", 2),
    *((CheckpointStore, "commit", call) for call in (1, 2)),
    (RunRecords, "finish", 1),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name", "call"), MOMENTS)
def test_killed_run_is_resumed(bucket, store, local, owner, name, call, after):
    with killed_at(owner, name, call, after), pytest.raises(Killed):
        train_here(store.path, RUN, **OPTIONS)
    with pytest.raises(StorageError, match=r"holds a (run that is not finished|finished run)"):
        train_here(store.path, RUN, **OPTIONS)
    with pytest.raises(ConfigError, match="without 'work'; resume it without --work"):
        train_here(store.path, RUN, **OPTIONS, resume=True, work="work")
    train_here(store.path, RUN, **OPTIONS, resume=True)
    assert_results(bucket, local)


def test_damaged_array_of_a_killed_run_is_refused(bucket, store):
    with killed_at(CheckpointStore, "commit", 1, True), pytest.raises(Killed):
        train_here(store.path, RUN, **OPTIONS)
    (bucket / "work/features/text/c/1/0").unlink()
    with pytest.raises(StorageError, match=r"features/text: the chunk with row 20 is missing"):
        train_here(store.path, RUN, **OPTIONS, resume=True)
