"""Run directories: made once, finished by one file, checkpoints pruned behind their commit."""

from __future__ import annotations

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from srch_dist.config.identity import dump_config
from srch_dist.config.loading import build_config, load_config
from srch_dist.encode.model import load_model
from srch_dist.errors import StorageError
from srch_dist.storage.locations import S3Path
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.hold import hold_run
from srch_dist.storage.run.open import create_run, open_run
from srch_dist.storage.run.results import RunResults


@pytest.fixture
def config():
    return build_config({"bits": 16, "seed": 3})


def test_new_run_records_its_options_and_is_not_finished(tmp_path, config):
    run = create_run(tmp_path / "runs" / "a", config)
    assert load_config(run.path / "config.yaml") == config
    assert json.loads((run.path / "run.json").read_text())["finished"] is False
    with pytest.raises(
        StorageError, match=r"the run .*a is not finished; repeat its training command"
    ):
        open_run(run.path)


def test_finished_run_is_opened_with_its_summary(tmp_path, config):
    create_run(tmp_path / "a", config).finish({"rows": 7})
    run = open_run(tmp_path / "a")
    assert run.path == (tmp_path / "a").resolve()
    assert run.summary() == {"rows": 7}


def test_a_run_of_an_earlier_version_has_no_checksums(tmp_path, config):
    run = create_run(tmp_path / "a", config)
    (run.path / "run.json").write_text('{"format": 1, "finished": true, "summary": {"rows": 7}}')
    (run.path / "config.yaml").write_text(dump_config(config) + "# a comment\n")
    assert open_run(run.path).summary() == {"rows": 7}
    assert open_run(run.path).config() == config


def test_a_model_that_does_not_belong_to_the_run_is_refused(tmp_path, config):
    run = create_run(tmp_path / "a", config)
    run.model.write_bytes(b"one")
    run.finish({})
    run.model.write_bytes(b"two")
    with pytest.raises(
        StorageError, match=r"model\.npz is damaged: it does not match its checksum"
    ):
        load_model(run.path)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("kept", [0, 20, 0.5, -1, None])
def test_damaged_options_are_not_taken_for_other_options(tmp_path, config, finished, kept):
    run = create_run(tmp_path / "a", config)
    if finished:
        run.finish({})
    path = run.path / "config.yaml"
    content = path.read_bytes()
    if kept is None:
        path.write_bytes(bytes(len(content)))
    else:
        path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
    resumed = dataclasses.replace(config, resume=True)
    with (
        pytest.raises(StorageError, match=r"config\.yaml is damaged: .*\. Restore the file"),
        hold_run(run.path, resumed),
    ):
        pass


def test_directory_with_anything_in_it_is_in_use(tmp_path, config):
    create_run(tmp_path / "a", config)
    before = sorted(path.name for path in (tmp_path / "a").iterdir())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("x")
    (tmp_path / "c").write_text("x")
    for name, reason in (
        ("a", r"a holds a run that is not finished; resume it with --resume, or choose another .*"),
        ("b", "b holds files that are no run; choose another run directory with --out"),
        ("c", r"cannot write .*c: it is a file\. Give a folder\."),
    ):
        with pytest.raises(StorageError, match=reason):
            create_run(tmp_path / name, config)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == before
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine"]


def test_empty_directory_may_be_used(tmp_path, config):
    (tmp_path / "a").mkdir()
    assert create_run(tmp_path / "a", config).path == (tmp_path / "a").resolve()


def test_place_that_cannot_be_written_is_refused(tmp_path, config):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        StorageError, match=r"cannot write .*file is a file\. Choose another location\."
    ):
        create_run(tmp_path / "file" / "a", config)


def test_commit_keeps_the_checkpoint_and_the_one_before(tmp_path, config):
    run = create_run(tmp_path / "a", config)
    for iteration in range(5):
        run.write_matrices(run.checkpoint(iteration, "sums"), {"a": np.full(2, iteration)})
        run.commit(iteration, {"iteration": iteration})
        kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
        assert kept == [f"{i:04d}" for i in range(max(0, iteration - 1), iteration + 1)]
    assert run.latest() == {"iteration": 4}


def test_history_grows_by_a_line_of_json_an_iteration(tmp_path, config):
    run = create_run(tmp_path / "a", config)
    records = [{"iteration": 1, "alpha": None}, {"iteration": 2, "alpha": 0.25}]
    for record in records:
        run.append_history(record)
    lines = (run.path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records == run.history()


def test_results_have_the_same_paths_on_a_disk_and_in_an_object_store(tmp_path):
    here, there = RunDirectory(tmp_path), RunResults(S3Path("some-bucket", "runs/a"))
    for name in ("model", "codes", "rows", "queries", "baseline", "page", "bit_figures"):
        path, place = getattr(here, name), getattr(there, name)
        assert (path.parent, place) == (tmp_path, S3Path("some-bucket", f"runs/a/{path.name}"))


def test_column_groups_are_committed_and_undone(tmp_path, config):
    run = create_run(tmp_path / "a", config)
    run.checkpoint(1).mkdir(parents=True)
    for start in (8, 0):
        run.commit_column_group(1, slice(start, start + 8), {"mean": np.full(8, start)})
    found = run.column_groups(1)
    assert list(found) == [(0, 8), (8, 16)]
    np.testing.assert_array_equal(found[8, 16]["mean"], np.full(8, 8))
    run.forget_column_groups(1)
    assert run.column_groups(1) == {}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 2, "finished": true}', '{"finished": true}'],
)
def test_damaged_or_foreign_run_is_refused(tmp_path, config, content):
    run = create_run(tmp_path / "a", config)
    (run.path / "run.json").write_text(content)
    with pytest.raises(StorageError, match=r"run\.json"):
        open_run(run.path)


@pytest.mark.parametrize("finished", ['"yes"', "1", "null", "false"])
def test_only_true_means_finished(tmp_path, config, finished):
    run = create_run(tmp_path / "a", config)
    (run.path / "run.json").write_text(f'{{"format": 1, "finished": {finished}}}')
    with pytest.raises(StorageError, match="not finished"):
        open_run(run.path)


def test_place_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StorageError, match="is not a run directory; make one with"):
        open_run(tmp_path)
    with pytest.raises(StorageError, match="nowhere does not exist; name the directory of a"):
        open_run(tmp_path / "nowhere")


def test_of_two_runs_that_start_at_once_one_is_refused(tmp_path, config):
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(create_run, tmp_path / "a", config) for _ in range(8)]
    refused = [one.exception() for one in tries if one.exception() is not None]
    assert len(refused) == 7
    assert all(isinstance(error, StorageError) for error in refused)


def test_files_are_readable_as_the_umask_says(tmp_path, config):
    before = os.umask(0o022)
    try:
        run = create_run(tmp_path / "a", config)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.path.iterdir()}
    assert modes == {"run.json": 0o644, "config.yaml": 0o644}
