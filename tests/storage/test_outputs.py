"""Outputs that cannot be written are refused before any work, by every command that has one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from srch_dist.encode import __main__ as encode
from srch_dist.errors import StorageError
from srch_dist.evaluate import __main__ as evaluate
from srch_dist.export import __main__ as export
from srch_dist.ingest import __main__ as ingest
from srch_dist.report import __main__ as report
from srch_dist.storage.locations import local_path
from srch_dist.storage.outputs import check_file, check_folder, check_new
from srch_dist.storage.run.open import occupied
from srch_dist.sweep import __main__ as sweep
from srch_dist.train import __main__ as train
from tests.helpers.runs import make_pairs, make_store, train_here

LONG = "n" * 256


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    store = make_store(folder, **make_pairs())
    return folder, store, train_here(store.path, folder / "run").run.path


@pytest.fixture
def refused(made, monkeypatch, capsys):
    """Run a command that has to end with one line and code 2, before it connects to a cluster."""
    folder, store, run = made
    monkeypatch.chdir(folder)

    def connect(*_arguments, **_options):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("srch_dist.runtime.cluster.connect", connect)

    def call(command, out):
        trained = ["--model", str(run), "--data", store.path]
        options = {
            encode: [*trained, "--modality", "image", "--out", out],
            evaluate: [*trained, "--json", out],
            report: [str(run), "--out", out],
            export: ["--codes", str(run / "codes.zarr"), "--format", "npy", "--out", out],
            sweep: ["--data", store.path, "--grid", "bits=8,16", "--out", out],
            train: ["--data", store.path, "--out", out],
            ingest: ["pairs.npz", out],
        }
        with pytest.raises(SystemExit) as end:
            command.main(options[command])
        lines = capsys.readouterr().err.splitlines()
        assert end.value.code == 2
        assert lines[-1].startswith("error: ")
        assert len([line for line in lines if "error: " in line]) == 1
        return lines[-1]

    return call


COMMANDS = [encode, evaluate, report, export, sweep, train, ingest]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_too_long(refused, command):
    assert "too long" in refused(command, LONG)
    assert "Give a shorter name" in refused(command, "n" * 250)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_the_way(refused, command):
    assert "pairs.npz is a file. Choose another location" in refused(command, "pairs.npz/out")


@pytest.mark.parametrize("command", [evaluate, report])
def test_a_folder_where_a_file_is_written(refused, command):
    assert "it is a folder. Give a file." in refused(command, ".")
    assert "its folder does not exist. Create the folder." in refused(command, "nowhere/out")


@pytest.mark.parametrize("command", [sweep, train])
def test_a_file_where_a_folder_is_written(refused, command):
    assert "pairs.npz: it is a file. Give a folder." in refused(command, "pairs.npz")


@pytest.mark.parametrize("command", [encode, export])
def test_an_output_that_exists(refused, command):
    assert "pairs.npz already exists. Remove it" in refused(command, "pairs.npz")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_folder(refused, command, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_arguments, **_options: False)
    assert "is read-only for this user" in refused(command, "out")


def test_ingest_into_a_name_with_markup(made, monkeypatch, capsys):
    monkeypatch.chdir(made[0])
    ingest.main(["pairs.npz", "[/x].zarr"])
    assert "[/x].zarr" in capsys.readouterr().out


def test_encode_looks_at_the_modality_before_it_starts_a_cluster(refused, monkeypatch):
    monkeypatch.setattr(
        encode, "open_rows", lambda *_: (_ for _ in ()).throw(StorageError("modality"))
    )
    assert "modality" in refused(encode, "codes")


def test_a_finished_run_is_not_in_use(refused):
    line = refused(train, "run")
    assert "run holds a finished run; choose another run directory with --out" in line
    assert "in use" not in line


def test_a_run_of_a_live_process_is_in_use(tmp_path):
    from srch_dist.storage.locks.file_lock import hold_lock

    (tmp_path / "run.json").write_text('{"format": 1, "finished": false}')
    with hold_lock(tmp_path):
        assert f"in use by another run (process {os.getpid()} on" in str(occupied(tmp_path))
    assert "is not finished; resume it with --resume" in str(occupied(tmp_path))


OTHER_FILES = ["pairs.npz", "run/model.npz", "run/run.json", "run/codes.zarr/zarr.json"]


@pytest.mark.parametrize("name", [*OTHER_FILES, "run/config.yaml"])
def test_evaluate_replaces_no_other_file(made, refused, name):
    refuses_to_replace(made[0] / name, "evaluation result", refused, evaluate)


@pytest.mark.parametrize("name", [*OTHER_FILES, "run/evaluation.json"])
def test_report_replaces_no_other_file(made, refused, name):
    refuses_to_replace(made[0] / name, "report page", refused, report)


@pytest.mark.parametrize("name", ["results.json", "results.csv"])
def test_sweep_replaces_no_other_file(made, refused, name):
    path = made[0] / "sweep" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    line = refused(sweep, "sweep")
    path.unlink()
    assert f"{path} exists and is no table of a sweep. Remove the file" in line


def refuses_to_replace(path, kind, refused, command):
    before = path.read_bytes()
    line = refused(command, str(path))
    assert f"{path} exists and is no {kind}. Remove the file, or choose another file." in line
    assert path.read_bytes() == before


def test_outputs_of_the_same_kind_and_empty_files_are_replaced(made, monkeypatch):
    folder, _store, run = made
    monkeypatch.chdir(folder)
    Path("page.html").touch()
    for _ in range(2):
        report.main([str(run), "--out", "page.html"])
    check_file(run / "evaluation.json", evaluate._RESULT)
    Path("empty.json").touch()
    check_file(folder / "empty.json", evaluate._RESULT)
    check_file(Path("/dev/null"), evaluate._RESULT)


def test_good_outputs_pass(tmp_path):
    check_new(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("x")
    check_file(tmp_path / "file")
    check_folder(tmp_path)


def test_paths_of_a_removed_working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(StorageError, match=r"working folder of this process was removed.*cd"):
        local_path("run")
    assert local_path(tmp_path) == Path(tmp_path)
