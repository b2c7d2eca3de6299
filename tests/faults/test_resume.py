"""Runs that end early and are resumed, in the test process: what is kept, redone and refused."""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr

from srch_dist.algorithm import loop
from srch_dist.config import versions
from srch_dist.errors import ConfigError, InputError, StorageError, StorageUnavailableError
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.stages import StageLog
from tests.helpers.runs import make_pairs, make_store, train_here

OPTIONS = {
    "partition_rows": 20,
    "blocks": 2,
    "columns": 8,
    "evaluate": False,
    "solver": {"tolerance": 1e-6},
    "method": {"iterations": 3, "threshold": 0.0, "loop_bits": 16, "anchors": 20},
}


class Killed(BaseException):
    """Simulates the end of the process; no code of the project catches it."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"), 25, **make_pairs())


@pytest.fixture(scope="module")
def clean(store, tmp_path_factory):
    """Codes and model of an undisturbed run."""
    run = train_here(store.path, tmp_path_factory.mktemp("clean") / "run", **OPTIONS).run
    return codes_of(run.path), np.load(run.model)


def codes_of(path: Path) -> np.ndarray:
    return zarr.open_array(str(path / "codes.zarr"), mode="r")[:]


def resume(store, out: Path, **options):
    return train_here(store.path, out, resume=True, **{**OPTIONS, **options})


def assert_same(out: Path, clean) -> None:
    codes, model = clean
    np.testing.assert_array_equal(codes_of(out), codes)
    found = np.load(out / "model.npz")
    for name in set(model.files) - {"header"}:
        np.testing.assert_allclose(found[name], model[name], rtol=1e-6, atol=1e-9)
    head = json.loads((out / "run.json").read_text())
    assert head["finished"] is True
    assert not (out / "work").exists()
    assert not (out / "lock.json").exists()
    assert len(RunDirectory(out).history()) == 3


@pytest.fixture
def kill_at(monkeypatch):
    """A function that ends the next run at the ``call``-th call of a method or function."""

    def arm(owner, name: str, call: int, after: bool = False):
        real, calls = getattr(owner, name), Counter()

        def counted(*arguments, **options):
            calls[name] += 1
            if calls[name] == call and not after:
                raise Killed
            result = real(*arguments, **options)
            if calls[name] == call:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, counted)

    yield arm
    monkeypatch.undo()


# Commits of a run: stages, their units, column groups of Z, iterations, and the end.
COMMITS = [
    *[(StageLog, "commit", call, call % 2 == 0) for call in range(1, 13)],
    *[(StageLog, "commit_unit", call, call % 2 == 0) for call in (2, 3, 8, 11, 13)],
    *[(RunDirectory, "commit_column_group", call, call == 4) for call in (1, 4)],
    *[(RunDirectory, "commit", call, call == 1) for call in (1, 3)],
    *[(RunDirectory, "finish", 1, after) for after in (False, True)],
]


@pytest.mark.parametrize(("owner", "name", "call", "after"), COMMITS)
@pytest.mark.fault("process killed before or after a commit", "survived")
def test_run_killed_at_a_commit_ends_with_the_same_codes(
    store, clean, tmp_path, kill_at, monkeypatch, owner, name, call, after
):
    kill_at(owner, name, call, after)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
    if not (name == "finish" and after):
        with pytest.raises(
            StorageError, match="not finished; repeat its training command with --resume"
        ):
            open_run(tmp_path / "run")
    monkeypatch.undo()
    resume(store, tmp_path / "run")
    assert_same(tmp_path / "run", clean)


def test_what_was_committed_is_not_done_again(store, clean, tmp_path, kill_at, monkeypatch):
    """The run is killed in the second Z-step, after the first of its two column groups."""
    kill_at(RunDirectory, "commit_column_group", 3, after=True)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
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
    resume(store, tmp_path / "run")
    # 3 of 6 column groups and 2 of 3 iterations remain; the model adds one commit.
    expected = {"commit_column_group": 3, "commit": 2 + 1}
    assert done["commit_column_group"] == expected["commit_column_group"]
    assert done["commit_unit"] == 0
    assert done["commit"] == expected["commit"]
    assert_same(tmp_path / "run", clean)


@pytest.mark.fault("resumed with other workers, blocks, partitions", "survived")
def test_other_workers_blocks_and_partitions_end_with_the_same_codes(
    store, clean, tmp_path, kill_at, monkeypatch
):
    kill_at(RunDirectory, "commit_column_group", 3, after=True)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    resume(store, tmp_path / "run", workers=3, blocks=1, columns=16, partition_rows=7)
    codes = codes_of(tmp_path / "run")
    np.testing.assert_array_equal(codes, clean[0])


def test_absent_or_empty_directory_starts(store, clean, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        resume(store, tmp_path / name)
        assert_same(tmp_path / name, clean)


def test_finished_run_is_left_as_it_is(store, tmp_path):
    train_here(store.path, tmp_path / "run", **OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert resume(store, tmp_path / "run").reason == "3 iterations"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.fixture(scope="module")
def killed(store, tmp_path_factory):
    """A run that was killed after its first iteration."""
    out, real = tmp_path_factory.mktemp("killed") / "run", RunDirectory.commit

    def commit(*arguments):
        real(*arguments)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "commit", commit)
        with pytest.raises(Killed):
            train_here(store.path, out, **OPTIONS)
    return out


@pytest.fixture
def interrupted(killed, tmp_path):
    """A copy of the killed run."""
    return shutil.copytree(killed, tmp_path / "run")


@pytest.mark.fault("directory in use", "refused")
def test_directory_in_use_is_refused_with_the_hint(store, interrupted):
    with pytest.raises(StorageError, match="is not finished; resume it with --resume"):
        train_here(store.path, interrupted, **OPTIONS)


@pytest.mark.fault("resumed with other options or data", "refused")
def test_other_options_are_refused_by_name_and_change_nothing(store, interrupted, clean):
    before = sorted(p for p in interrupted.rglob("*"))
    with pytest.raises(
        ConfigError, match=r"started with other options: seed is 5, the run has 0"
    ) as e:
        resume(store, interrupted, seed=5, method={**OPTIONS["method"], "lam": 3})
    assert "method.lam is 3" in str(e.value)
    assert "the run has 10.0" in str(e.value)
    assert sorted(p for p in interrupted.rglob("*")) == before
    resume(store, interrupted, keep_work=False)
    assert_same(interrupted, clean)


@pytest.mark.fault("resumed with other options or data", "refused")
def test_other_data_are_refused_and_change_nothing(store, interrupted, clean, tmp_path):
    other = make_store(tmp_path / "other", 25, **make_pairs(seed=1))
    with pytest.raises(InputError, match=r"started with other data than .*: checksums is"):
        resume(other, interrupted)
    resume(store, interrupted)
    assert_same(interrupted, clean)


@pytest.mark.fault("resumed with other versions of libraries", "survived")
def test_other_versions_are_said_in_one_line(store, interrupted, clean, monkeypatch, caplog):
    now = {**versions.current_versions(), "numpy": "9.9.9", "python": "3.99.1"}
    monkeypatch.setattr(versions, "current_versions", lambda: now)
    caplog.set_level("WARNING", "srch_dist")
    resume(store, interrupted)
    (text,) = [one.message for one in caplog.records if "was started with" in one.message]
    assert text.startswith(f"the run was started with numpy {np.__version__} (now 9.9.9). Codes ")
    assert_same(interrupted, clean)


def test_the_same_versions_and_an_earlier_record_are_no_reason_to_warn(store, interrupted, caplog):
    caplog.set_level("WARNING", "srch_dist")
    assert versions.changed_versions(versions.current_versions()) == []
    assert versions.changed_versions({}) == []
    resume(store, interrupted)
    assert "was started with" not in caplog.text


@pytest.mark.fault("left-over temporary files", "survived")
def test_leftovers_of_killed_writers_are_removed(store, interrupted, clean):
    left = [
        interrupted / "work" / "order" / "c" / "0.123.partial",
        interrupted / ".model.npz.1.partial",
        interrupted / "work" / "scratch" / "order" / "000000" / "rows.1.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    resume(store, interrupted, keep_work=True)
    assert not any(path.exists() for path in left)
    np.testing.assert_array_equal(codes_of(interrupted), clean[0])


def chunk(path: Path) -> Path:
    return sorted(file for file in (path / "c").rglob("*") if file.is_file())[1]


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


DAMAGE = {
    "missing": (lambda file: file.unlink(), "is missing"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-9]), "instead of"),
    "empty": (lambda file: file.write_bytes(b""), "has 0 bytes instead of"),
    "flipped": (flip, "is damaged"),
    "stale": (lambda file: shutil.copy(file.parent.parent / "0" / "0", file), "stale"),
}


@pytest.mark.parametrize(
    ("kind", "part"),
    [(kind, "work/features/image") for kind in DAMAGE],
)
@pytest.mark.fault("damaged chunk of a run", "refused")
def test_damaged_chunks_of_a_run_are_named_when_it_is_resumed(store, interrupted, kind, part):
    damage, message = DAMAGE[kind]
    file = chunk(interrupted / part)
    damage(file)
    with pytest.raises(StorageError, match=message) as refusal:
        resume(store, interrupted)
    assert str(interrupted / part) in str(refusal.value)
    assert str(file) in str(refusal.value)
    with pytest.raises(StorageError, match="not finished"):
        open_run(interrupted)


@pytest.mark.parametrize(
    "name",
    ["work/stages/spilled.json", "work/stages/spilled.npz"],
)
@pytest.mark.fault("damaged manifest", "refused")
def test_damaged_manifest_is_named_and_never_used(store, interrupted, name):
    file = interrupted / name
    for cut in (flip, lambda file: file.write_bytes(file.read_bytes()[:40])):
        kept = file.read_bytes()
        cut(file)
        with pytest.raises(StorageError, match=str(file)):
            resume(store, interrupted)
        file.write_bytes(kept)


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("manifest.json", lambda file: file.write_text("{}")),
        ("manifest.json", flip),
        ("codes", lambda folder: DAMAGE["stale"][0](chunk(folder))),
        ("z", lambda folder: DAMAGE["empty"][0](chunk(folder))),
    ],
)
@pytest.mark.fault("damaged checkpoint", "survived")
def test_a_damaged_checkpoint_is_given_up_for_the_one_before(
    store, clean, tmp_path, kill_at, monkeypatch, caplog, last, part, damage
):
    kill_at(RunDirectory, "commit", last, after=True)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    damage(tmp_path / "run" / "checkpoints" / f"000{last}" / part)
    with caplog.at_level("INFO", logger="srch_dist"):
        resume(store, tmp_path / "run")
    assert f"the checkpoint of iteration {last} is damaged" in caplog.text
    assert f"Resuming after iteration {last - 1}." in caplog.text
    assert_same(tmp_path / "run", clean)


@pytest.mark.fault("disk goes away while a checkpoint is verified", "survived")
def test_a_checkpoint_that_cannot_be_read_for_the_moment_is_kept(
    store, clean, tmp_path, kill_at, monkeypatch
):
    kill_at(RunDirectory, "commit", 2, after=True)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    read = arrays.read_plain

    def fail(path, *arguments):
        if "0002" in path.parts:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, *arguments)

    monkeypatch.setattr(arrays, "read_plain", fail)
    with pytest.raises(StorageUnavailableError, match=r"cannot read rows .*Stale file handle"):
        resume(store, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "0002").exists()
    monkeypatch.undo()
    resume(store, tmp_path / "run")
    assert_same(tmp_path / "run", clean)


@pytest.mark.fault("damaged checkpoint", "refused")
def test_a_damaged_checkpoint_without_one_before_is_refused_and_kept(
    store, tmp_path, kill_at, monkeypatch
):
    kill_at(RunDirectory, "commit", 2, after=True)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    folder = tmp_path / "run" / "checkpoints"
    for entry in ("0000", "0001"):
        shutil.rmtree(folder / entry, ignore_errors=True)
    flip(folder / "0002" / "manifest.json")
    with pytest.raises(StorageError, match="0002/manifest"):
        resume(store, tmp_path / "run")
    assert (folder / "0002" / "manifest.json").exists()


def test_checkpoints_are_pruned_and_disk_is_bounded(store, tmp_path, kill_at, monkeypatch):
    kill_at(RunDirectory, "commit", 3, after=True)
    with pytest.raises(Killed):
        train_here(store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["0002", "0003"]


def test_a_lost_task_never_needs_a_pruned_checkpoint(store, tmp_path, monkeypatch):
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
    train_here(store.path, tmp_path / "run", **OPTIONS)
    assert len(seen) == 3
    assert all(key.startswith("read_rows") for keys in seen for key in keys), seen


def test_arrays_of_other_codecs_or_objects_are_refused(tmp_path):
    zarr.create_array(tmp_path / "a", shape=(4,), chunks=(4,), dtype="f4")  # zstd by default
    with pytest.raises(StorageError, match="with the codecs bytes, zstd"):
        arrays.read_rows(tmp_path / "a")
