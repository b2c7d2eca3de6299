"""Files that commands write: full disks, two processes at once, devices and pipes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import usearch.index

from srch_dist import certificates
from srch_dist.encode import __main__ as encode
from srch_dist.encode import batch
from srch_dist.errors import StorageError
from srch_dist.evaluate import __main__ as evaluate
from srch_dist.export import __main__ as export
from srch_dist.export import formats
from srch_dist.ingest import __main__ as ingest
from srch_dist.ingest import pipeline
from srch_dist.report import __main__ as report
from srch_dist.report import records
from srch_dist.sweep import __main__ as sweep
from srch_dist.sweep import runner
from srch_dist.train import finish
from tests.helpers.disks import fill, small_disk
from tests.helpers.runs import make_pairs, make_store, no_cluster, train_here

pytestmark = pytest.mark.slow

FORMATS = ("faiss", "faiss-ivf", "usearch", "npy", "parquet")
ROWS = 4000
# Exit code of a full disk.
FULL = 74


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with queries, a run with scores and page, codes of two kinds."""
    folder = tmp_path_factory.mktemp("made")
    store = make_store(folder, 25, **make_pairs())
    train_here(store.path, folder / "run", report=True)
    for name, seed in (("a", 0), ("b", 1)):
        rng = np.random.default_rng(seed)
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (ROWS, 2), dtype=np.uint8))
        np.savez(folder / f"{name}.npz", **make_pairs(seed=seed))
    return folder


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)


@pytest.fixture
def commands(made):
    """Arguments of each command that writes a file: of codes or sources ``a`` or ``b``."""

    def lines(out: Path, kind: str = "a") -> dict:
        trained = ["--model", str(made / "run"), "--data", str(made / "pairs.zarr")]
        modality = {"a": "image", "b": "text"}[kind]
        codes = ["--codes", str(made / f"{kind}.npy"), "--out", str(out)]
        return {
            encode: [*trained, "--modality", modality, "--out", str(out)],
            evaluate: [*trained, "--json", str(out)],
            report: [str(made / "run"), "--out", str(out)],
            ingest: [str(made / f"{kind}.npz"), str(out)],
            export: [*codes, "--format", "npy"],
            **{form: [*codes, "--format", form] for form in FORMATS},
        }

    return lines


def refused(command, arguments, capsys, code: int = 2) -> tuple[str, str]:
    """Run a command that has to end with one line and an exit code; its line, and its output."""
    with pytest.raises(SystemExit) as end:
        command.main([*map(str, arguments)])
    assert end.value.code == code
    done = capsys.readouterr()
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    return line, done.out


def filling(monkeypatch, owner, name: str, disk: Path):
    """Let a function end on a full disk."""
    real = getattr(owner, name)

    def filled(*arguments, **options):
        result = real(*arguments, **options)
        fill(disk)
        return result

    monkeypatch.setattr(owner, name, filled)


@pytest.mark.fault("full disk during export", "refused")
@pytest.mark.parametrize("form", FORMATS)
def test_export_on_a_full_disk(tmp_path, commands, monkeypatch, capsys, form):
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        filling(monkeypatch, formats, "check_space", disk)
        line, _ = refused(export, commands(disk / "out")[form], capsys, FULL)
        assert f"cannot write {disk / 'out'}: " in line
        assert "No space left on device" in line or "bytes; 0 are free" in line
        assert [path.name for path in disk.iterdir()] == ["ballast"]
        monkeypatch.undo()
        (disk / "ballast").unlink()
        export.main(commands(disk / "out")[form])


@pytest.mark.fault("full disk during evaluate", "refused")
def test_scores_are_printed_where_their_file_cannot_be_written(
    tmp_path, commands, monkeypatch, capsys
):
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        old = json.dumps(dict.fromkeys(("queries", "database", "bits", "pair_recall")))
        (disk / "out").write_text(old)
        filling(monkeypatch, evaluate, "evaluate_model", disk)
        line, output = refused(evaluate, commands(disk / "out")[evaluate], capsys, FULL)
        assert line == f"error: cannot write {disk / 'out'}: No space left on device"
        assert "image → text" in output
        assert (disk / "out").read_text() == old
        assert sorted(path.name for path in disk.iterdir()) == ["ballast", "out"]


@pytest.mark.fault("full disk during report", "refused")
def test_report_on_a_full_disk(tmp_path, commands, monkeypatch, capsys):
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        old = "<!doctype html><title>a run - srch-dist</title>"
        (disk / "out").write_text(old)
        filling(monkeypatch, records, "load_records", disk)
        line, _ = refused(report, commands(disk / "out")[report], capsys, FULL)
        assert line == f"error: cannot write {disk / 'out'}: No space left on device"
        assert (disk / "out").read_text() == old
        assert sorted(path.name for path in disk.iterdir()) == ["ballast", "out"]


@pytest.mark.fault("full disk during sweep", "refused")
@pytest.mark.parametrize("name", ["_train_one", "_rows"])
def test_scores_of_a_sweep_are_printed_where_its_files_cannot_be_written(
    tmp_path, made, monkeypatch, capsys, name
):
    """The disk is full before the result of a combination, or before the table of all."""
    with small_disk(tmp_path / "disk", "size=64m") as disk:
        grid = [made / "pairs.zarr", "--grid", "bits=16", "--out", disk / "out"]
        options = ["--graph.k", "5", "--no-baseline", "--no-report", "--method.iterations", "2"]
        filling(monkeypatch, runner, name, disk)
        line, output = refused(sweep, [*grid, *options], capsys, FULL)
        assert "No space left on device" in line
        assert "MAP" in output
        monkeypatch.undo()
        monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
        (disk / "ballast").unlink()
        sweep.main([*map(str, grid), *options])
        table = capsys.readouterr().out
        assert [row.split()[:2] for row in table.splitlines() if row.split()[:1] == ["16"]] == [
            row.split()[:2] for row in output.splitlines() if row.split()[:1] == ["16"]
        ]
        assert (disk / "out" / "results.csv").exists()


@pytest.mark.fault("full disk while the scores of a run are recorded", "survived")
def test_a_run_is_kept_where_its_scores_cannot_be_written(tmp_path, made, monkeypatch, caplog):
    with small_disk(tmp_path / "disk", "size=64m") as disk:
        filling(monkeypatch, finish, "evaluate_run", disk)
        with pytest.raises(StorageError, match=r"No space left.*finished and kept.*--resume"):
            train_here(made / "pairs.zarr", disk / "run")
        assert "scores: image_to_text MAP=0." in caplog.text
        monkeypatch.undo()
        (disk / "ballast").unlink()
        monkeypatch.setattr("srch_dist.train.runner.run_pipeline", lambda _: pytest.fail("trained"))
        train_here(made / "pairs.zarr", disk / "run", resume=True)
        expected = json.loads((made / "run" / "evaluation.json").read_text())
        found = json.loads((disk / "run" / "evaluation.json").read_text())
        assert {**found, "run": 0, "crc32": 0} == {**expected, "run": 0, "crc32": 0}


# Where each command has read its input and not yet written its output.
MOMENTS = {
    encode: (batch, "_write_codes"),
    evaluate: (evaluate, "evaluate_model"),
    report: (records, "load_records"),
    ingest: (pipeline, "_write_arrays"),
    **dict.fromkeys(FORMATS, (formats, "check_space")),
}


@pytest.mark.fault("two processes, one output", "refused")
@pytest.mark.parametrize("which", MOMENTS)
def test_the_second_of_two_is_refused_by_name(tmp_path, commands, monkeypatch, capsys, which):
    command = export if isinstance(which, str) else which
    command.main(commands(tmp_path / "alone")[which])
    out, real, lines = tmp_path / "out", getattr(*MOMENTS[which]), []

    def meanwhile(*arguments, **options):
        result = real(*arguments, **options)
        monkeypatch.setattr(*MOMENTS[which], real)
        lines.append(refused(command, commands(out, "b")[which], capsys)[0])
        return result

    monkeypatch.setattr(*MOMENTS[which], meanwhile)
    command.main(commands(out)[which])
    assert f"{out} is in use by another run (process {os.getpid()} on" in lines[0]
    assert "choose another output" in lines[0]
    assert content(out) == content(tmp_path / "alone")
    assert not list(tmp_path.glob(".*"))


def content(place: Path):
    """Bytes of a file, or of the files of a folder by name; the codes of a usearch index."""
    if place.is_dir():
        files = filter(Path.is_file, place.rglob("*"))
        return {path.relative_to(place): path.read_bytes() for path in files}
    found = place.read_bytes()
    if b"usearch" in found:  # its graph depends on the timing of threads
        return np.array(usearch.index.Index.restore(str(place)).get(np.arange(ROWS))).tobytes()
    return found


@pytest.mark.fault("two processes, one output", "refused")
def test_of_two_exports_at_once_one_wins(tmp_path, commands, made):
    """Real processes: the second finds the lock of the first, or its file."""
    line = [sys.executable, "-m", "srch_dist.export"]
    started = [
        subprocess.Popen(
            [*line, *commands(tmp_path / "out", kind)["npy"]], stderr=subprocess.PIPE, text=True
        )
        for kind in "ab"
    ]
    ends = [(*process.communicate(timeout=120), process.returncode) for process in started]
    assert sorted(code for *_, code in ends) == [0, 2]
    (winner,) = (kind for kind, (*_, code) in zip("ab", ends, strict=True) if code == 0)
    (message,) = (errors for _, errors, code in ends if code)
    assert "in use by another run" in message or "already exists" in message
    found, expected = np.load(tmp_path / "out"), np.load(made / f"{winner}.npy")
    np.testing.assert_array_equal(found, expected)


STREAMED = (evaluate, report, *FORMATS)


@pytest.mark.fault("output to a pipe or a device", "survived")
@pytest.mark.parametrize("which", STREAMED)
def test_a_pipe_is_written_and_stays_one(tmp_path, commands, which):
    command = export if isinstance(which, str) else which
    command.main(commands(tmp_path / "file")[which])
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    command.main(commands(pipe)[which])
    reader.join(60)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(found[0]) == (tmp_path / "file").stat().st_size
    left = {path.name for path in tmp_path.iterdir()} - {"file.json"}
    assert left == {"file", "pipe"}


@pytest.mark.fault("output to a pipe or a device", "survived")
@pytest.mark.parametrize("which", STREAMED)
def test_a_device_stays_one(tmp_path, commands, capsys, which):
    """Through links, so that a fault would not replace the machine's own device."""
    command = export if isinstance(which, str) else which
    for name in ("null", "full"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
    command.main(commands(tmp_path / "null")[which])
    line, _ = refused(command, commands(tmp_path / "full")[which], capsys, FULL)
    assert line == f"error: cannot write {tmp_path / 'full'}: No space left on device"
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {"null", "full"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.fault("full disk while certificates are written", "refused")
def test_a_full_disk_leaves_no_certificate(tmp_path, monkeypatch, capsys):
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        filling(monkeypatch, certificates, "_key_pem", disk)
        line, _ = refused(certificates, [disk / "tls"], capsys, FULL)
        assert line == f"error: cannot write {disk / 'tls'}: No space left on device"
        assert list((disk / "tls").iterdir()) == []


@pytest.mark.fault("two processes, one output", "refused")
def test_of_two_sets_of_certificates_one_is_whole(tmp_path, monkeypatch):
    real, first = certificates._write_all, {}

    def meanwhile(folder, files):
        monkeypatch.setattr(certificates, "_write_all", real)
        certificates.make_certificates(folder)
        first.update(content(folder))
        real(folder, files)

    monkeypatch.setattr(certificates, "_write_all", meanwhile)
    with pytest.raises(StorageError, match=rf"cannot write {tmp_path / 'tls'}: File exists"):
        certificates.make_certificates(tmp_path / "tls")
    assert content(tmp_path / "tls") == first
    assert len(first) == 7
