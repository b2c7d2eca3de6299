"""Runs that end early and are resumed, in the test process: what is kept, redone and refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from srch_dist.algorithm import loop
from srch_dist.config import versions
from srch_dist.errors import ConfigError, InputError, StorageError
from srch_dist.runtime import tasks
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.stages import StageLog
from tests.helpers.faults import codes_of
from tests.helpers.killed_runs import OPTIONS, Killed, assert_resumed, resume
from tests.helpers.runs import make_pairs, make_store, train_here

# Commits of a run: stages, their units, column groups of Z, iterations, and the end.
COMMITS = [
    *[(StageLog, "commit", call, call % 2 == 0) for call in range(1, 12)],
    *[(StageLog, "commit_unit", call, call % 2 == 0) for call in (2, 3, 8, 11, 13)],
    *[(RunDirectory, "commit_column_group", call, call == 4) for call in (1, 4)],
    *[(RunDirectory, "commit", call, call == 1) for call in (1, 3)],
    *[(RunDirectory, "finish", 1, after) for after in (False, True)],
]


@pytest.mark.parametrize(("owner", "name", "call", "after"), COMMITS)
@pytest.mark.fault("process killed before or after a commit", "survived")
def test_run_killed_at_a_commit_ends_with_the_same_codes(
    small_store, small_clean, tmp_path, kill_at, monkeypatch, owner, name, call, after
):
    kill_at(owner, name, call, after)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    if not (name == "finish" and after):
        with pytest.raises(
            StorageError, match="not finished; repeat its training command with --resume"
        ):
            open_run(tmp_path / "run")
    monkeypatch.undo()
    resume(small_store, tmp_path / "run")
    assert_resumed(tmp_path / "run", small_clean)


def test_what_was_committed_is_not_done_again(
    small_store, small_clean, tmp_path, kill_at, monkeypatch
):
    """The run is killed in the second Z-step, after the first of its two column groups."""
    kill_at(RunDirectory, "commit_column_group", 3, after=True)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    done = Counter()
    for owner, name in [
        (StageLog, "commit_unit"),
        (StageLog, "commit"),
        (RunDirectory, "commit_column_group"),
        (RunDirectory, "commit"),
    ]:
        real = getattr(owner, name)

        def counted(*arguments, _real=real, _name=name):
            done[_name] += 1
            return _real(*arguments)

        monkeypatch.setattr(owner, name, counted)
    resume(small_store, tmp_path / "run")
    # 3 of 6 column groups and 2 of 3 iterations remain; the model adds one commit.
    expected = {"commit_column_group": 3, "commit": 2 + 1}
    assert done["commit_column_group"] == expected["commit_column_group"]
    assert done["commit_unit"] == 0
    assert done["commit"] == expected["commit"]
    assert_resumed(tmp_path / "run", small_clean)


@pytest.mark.fault("resumed with other workers, blocks, partitions", "survived")
def test_other_workers_blocks_and_partitions_end_with_the_same_codes(
    small_store, small_clean, tmp_path, kill_at, monkeypatch
):
    kill_at(RunDirectory, "commit_column_group", 3, after=True)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    resume(small_store, tmp_path / "run", workers=3, blocks=1, columns=16, partition_rows=7)
    codes = codes_of(tmp_path / "run")
    np.testing.assert_array_equal(codes, small_clean.codes)


def test_absent_or_empty_directory_starts(small_store, small_clean, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        resume(small_store, tmp_path / name)
        assert_resumed(tmp_path / name, small_clean)


def test_finished_run_is_left_as_it_is(small_store, tmp_path):
    train_here(small_store.path, tmp_path / "run", **OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert resume(small_store, tmp_path / "run").reason == "3 iterations"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.fault("directory in use", "refused")
def test_directory_in_use_is_refused_with_the_hint(small_store, interrupted):
    with pytest.raises(StorageError, match="is not finished; resume it with --resume"):
        train_here(small_store.path, interrupted, **OPTIONS)


@pytest.mark.fault("resumed with other options or data", "refused")
def test_other_options_are_refused_by_name_and_change_nothing(
    small_store, interrupted, small_clean
):
    before = sorted(p for p in interrupted.rglob("*"))
    with pytest.raises(
        ConfigError, match=r"started with other options: seed is 5, the run has 0"
    ) as e:
        resume(small_store, interrupted, seed=5, method={**OPTIONS["method"], "lam": 3})
    assert "method.lam is 3" in str(e.value)
    assert "the run has 10.0" in str(e.value)
    assert sorted(p for p in interrupted.rglob("*")) == before
    resume(small_store, interrupted, keep_work=False)
    assert_resumed(interrupted, small_clean)


@pytest.mark.fault("resumed with other options or data", "refused")
def test_other_data_are_refused_and_change_nothing(small_store, interrupted, small_clean, tmp_path):
    other = make_store(tmp_path / "other", 25, **make_pairs(seed=1))
    with pytest.raises(InputError, match=r"started with other data than .*: checksums is"):
        resume(other, interrupted)
    resume(small_store, interrupted)
    assert_resumed(interrupted, small_clean)


@pytest.mark.fault("resumed with other versions of libraries", "survived")
def test_other_versions_are_said_in_one_line(
    small_store, interrupted, small_clean, monkeypatch, caplog
):
    now = {**versions.current_versions(), "numpy": "9.9.9", "python": "3.99.1"}
    monkeypatch.setattr(versions, "current_versions", lambda: now)
    caplog.set_level("WARNING", "srch_dist")
    resume(small_store, interrupted)
    (text,) = [one.message for one in caplog.records if "was started with" in one.message]
    assert text.startswith(f"the run was started with numpy {np.__version__} (now 9.9.9). Codes ")
    assert_resumed(interrupted, small_clean)


def test_the_same_versions_and_an_earlier_record_are_no_reason_to_warn(
    small_store, interrupted, caplog
):
    caplog.set_level("WARNING", "srch_dist")
    assert versions.changed_versions(versions.current_versions()) == []
    assert versions.changed_versions({}) == []
    resume(small_store, interrupted)
    assert "was started with" not in caplog.text


@pytest.mark.fault("left-over temporary files", "survived")
def test_leftovers_of_killed_writers_are_removed(small_store, interrupted, small_clean):
    left = [
        interrupted / "work" / "order" / "c" / "0.123.partial",
        interrupted / ".model.npz.1.partial",
        interrupted / "work" / "scratch" / "order" / "000000" / "rows.1.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    resume(small_store, interrupted, keep_work=True)
    assert not any(path.exists() for path in left)
    np.testing.assert_array_equal(codes_of(interrupted), small_clean.codes)


def test_checkpoints_are_pruned_and_disk_is_bounded(small_store, tmp_path, kill_at, monkeypatch):
    kill_at(RunDirectory, "commit", 3, after=True)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["0002", "0003"]


def test_a_lost_task_never_needs_a_pruned_checkpoint(small_store, tmp_path, monkeypatch):
    """Lost Z on workers is read again from the last two checkpoints only."""
    seen = []
    real = loop.z_step

    def noted(*arguments):
        embedding = real(*arguments)
        keys = {str(key) for group in embedding.groups for block in group for key in block.dask}
        seen.append(keys)
        return embedding

    monkeypatch.setattr(loop, "z_step", noted)
    monkeypatch.setattr(tasks, "persist", list)  # keeps the task graphs, for inspection
    train_here(small_store.path, tmp_path / "run", **OPTIONS)
    assert len(seen) == 3
    assert all(key.startswith("read_rows") for keys in seen for key in keys), seen
