"""Runs with damaged or foreign files, resumed in the test process: refused, or survived."""

from __future__ import annotations

import errno
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr

from srch_dist.errors import StorageError, StorageUnavailableError
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.report.records import load_records
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import open_run
from srch_dist.train import finish, pipeline, setup
from tests.helpers.killed_runs import OPTIONS, Killed, assert_resumed, resume
from tests.helpers.runs import ROWS, exchange_chunk, make_pairs, make_store, train_here


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
def test_damaged_chunks_of_a_run_are_named_when_it_is_resumed(small_store, interrupted, kind, part):
    damage, message = DAMAGE[kind]
    file = chunk(interrupted / part)
    damage(file)
    with pytest.raises(StorageError, match=message) as refusal:
        resume(small_store, interrupted)
    assert str(interrupted / part) in str(refusal.value)
    assert str(file) in str(refusal.value)
    with pytest.raises(StorageError, match="not finished"):
        open_run(interrupted)


@pytest.mark.parametrize(
    "name",
    ["work/stages/spilled.json", "work/stages/spilled.npz"],
)
@pytest.mark.fault("damaged manifest", "refused")
def test_damaged_manifest_is_named_and_never_used(small_store, interrupted, name):
    file = interrupted / name
    for cut in (flip, lambda file: file.write_bytes(file.read_bytes()[:40])):
        kept = file.read_bytes()
        cut(file)
        with pytest.raises(StorageError, match=str(file)):
            resume(small_store, interrupted)
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
    small_store, small_clean, tmp_path, kill_at, monkeypatch, caplog, last, part, damage
):
    kill_at(RunDirectory, "commit", last, after=True)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    damage(tmp_path / "run" / "checkpoints" / f"000{last}" / part)
    with caplog.at_level("INFO", logger="srch_dist"):
        resume(small_store, tmp_path / "run")
    assert f"the checkpoint of iteration {last} is damaged" in caplog.text
    assert f"Resuming after iteration {last - 1}." in caplog.text
    assert_resumed(tmp_path / "run", small_clean)


@pytest.mark.fault("disk goes away while a checkpoint is verified", "survived")
def test_a_checkpoint_that_cannot_be_read_for_the_moment_is_kept(
    small_store, small_clean, tmp_path, kill_at, monkeypatch
):
    kill_at(RunDirectory, "commit", 2, after=True)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    read = arrays.read_plain

    def fail(path, *arguments):
        if "0002" in path.parts:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, *arguments)

    monkeypatch.setattr(arrays, "read_plain", fail)
    with pytest.raises(StorageUnavailableError, match=r"cannot read rows .*Stale file handle"):
        resume(small_store, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "0002").exists()
    monkeypatch.undo()
    resume(small_store, tmp_path / "run")
    assert_resumed(tmp_path / "run", small_clean)


@pytest.mark.fault("damaged checkpoint", "refused")
def test_a_damaged_checkpoint_without_one_before_is_refused_and_kept(
    small_store, tmp_path, kill_at, monkeypatch
):
    kill_at(RunDirectory, "commit", 2, after=True)
    with pytest.raises(Killed):
        train_here(small_store.path, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    folder = tmp_path / "run" / "checkpoints"
    for entry in ("0000", "0001"):
        shutil.rmtree(folder / entry, ignore_errors=True)
    flip(folder / "0002" / "manifest.json")
    with pytest.raises(StorageError, match="0002/manifest"):
        resume(small_store, tmp_path / "run")
    assert (folder / "0002" / "manifest.json").exists()


def test_arrays_of_other_codecs_or_objects_are_refused(tmp_path):
    zarr.create_array(tmp_path / "a", shape=(4,), chunks=(4,), dtype="f4")  # zstd by default
    with pytest.raises(StorageError, match="with the codecs bytes, zstd"):
        arrays.read_rows(tmp_path / "a")


@pytest.mark.fault("part of another run in a killed run", "refused")
@pytest.mark.parametrize(
    ("part", "message"), [("checkpoints", "belongs to another run"), ("work/sample", "checksum")]
)
def test_parts_of_a_run_on_other_data_are_refused(
    small_store, interrupted, tmp_path, kill_at, monkeypatch, part, message
):
    other = make_store(tmp_path / "data", 25, **make_pairs(seed=9))
    kill_at(RunDirectory, "commit", 1, after=True)
    with pytest.raises(Killed):
        resume(other, tmp_path / "theirs")
    monkeypatch.undo()
    shutil.rmtree(interrupted / part)
    shutil.copytree(tmp_path / "theirs" / part, interrupted / part)
    with pytest.raises(StorageError, match=message):
        resume(small_store, interrupted)


@pytest.mark.fault("store replaced after training started", "refused")
@pytest.mark.parametrize(
    ("module", "step", "back"),
    [
        (setup, "write_rows", None),
        (pipeline, "resume_features", None),
        (pipeline, "resume_features", "resume_graph"),
        (pipeline, "resume_graph", None),
        (finish, "evaluate_run", None),
    ],
)
def test_a_store_that_is_replaced_after_the_start_is_refused(
    tmp_path, monkeypatch, module, step, back
):
    """The other store has the same shapes; it may be gone again after the features were read."""
    mine, other = (
        make_store(tmp_path / name, 25, **make_pairs(seed=seed))
        for name, seed in (("a", 0), ("b", 9))
    )

    def exchange(place, name, first, second):
        real = getattr(place, name)

        def turned(*arguments):
            Path(first).rename(tmp_path / "away")
            Path(second).rename(first)
            (tmp_path / "away").rename(second)
            return real(*arguments)

        monkeypatch.setattr(place, name, turned)

    exchange(module, step, mine.path, other.path)
    if back:
        exchange(module, back, mine.path, other.path)
    with pytest.raises(StorageError, match=r"was replaced while it was in use|do not match"):
        train_here(mine.path, tmp_path / "run")


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two finished runs with different held-out queries of one store."""
    folder = tmp_path_factory.mktemp("twins")
    pairs = make_pairs(split=None, caption=np.array([f"row {row}" for row in range(ROWS)]))
    store = make_store(folder, **pairs)
    for name, seed in (("a", 0), ("b", 1)):
        train_here(store.path, folder / name, seed=seed, queries=20)
    return folder


@pytest.mark.fault("part of another run in a finished run", "refused")
@pytest.mark.parametrize(
    "part", ["codes.zarr", "rows.zarr", "queries.zarr", "evaluation.json", "examples.json"]
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "content alone"])
def test_parts_of_another_finished_run_are_refused(twins, tmp_path, part, whole):
    run = tmp_path / "run"
    shutil.copytree(twins / "a", run)
    if part.endswith("json"):
        theirs, mine = (json.loads((twins / name / part).read_text()) for name in "ba")
        (run / part).write_text(json.dumps(theirs if whole else {**theirs, "run": mine["run"]}))
    elif whole:
        shutil.rmtree(run / part)
        shutil.copytree(twins / "b" / part, run / part)
    else:
        exchange_chunk(run / part, twins / "b" / part, 0)
    reads = partial(load_records, [run])
    if part.endswith("zarr"):
        reads = partial(evaluate_model, run, twins / "pairs.zarr")
    with pytest.raises(StorageError, match=r"another run|that this run wrote|checksum"):
        reads()
