"""The commands as a person runs them: processes of their own, a real cluster, pipes, a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import dask
import distributed
import numpy as np
import pytest
import zarr

import srch_dist
from srch_dist import certificates
from srch_dist.cli.command import parse
from srch_dist.encode.__main__ import _Options as EncodeOptions
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.search.__main__ import _Options as SearchOptions
from srch_dist.storage.run.results import RunResults
from srch_dist.train import __main__ as train
from srch_dist.train.runner import Trained
from tests.helpers.commands import LIMIT, run_command
from tests.helpers.models import numpy_bits
from tests.helpers.runs import ROWS, make_pairs

pytestmark = pytest.mark.cluster

TRAIN = [sys.executable, "-m", "srch_dist.train", "--data", "pairs.zarr"]


@dataclass(frozen=True)
class Session:
    folder: Path
    address: str
    ingest: subprocess.CompletedProcess
    train: subprocess.CompletedProcess
    encode: subprocess.CompletedProcess
    evaluate: subprocess.CompletedProcess
    report: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A scheduler that runs already, with two worker processes."""
    scratch = str(tmp_path_factory.mktemp("scratch"))
    with (
        dask.config.set({"temporary-directory": scratch}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit="1GiB",
            local_directory=scratch,
        ) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def session(tmp_path_factory, address):
    folder = tmp_path_factory.mktemp("session")
    titles = np.array([f"pair {row} 🦉" for row in range(ROWS)])
    np.savez(folder / "pairs.npz", **make_pairs(titles=titles))
    there = ["--scheduler", address]
    trained = ["--model", "run", "--data", "pairs.zarr"]
    options = ["--data", "pairs.zarr", "--out", "run", "--bits", 16, "--graph.k", 5]
    options += ["--workers", 2, "--memory-limit", "1GiB", "--partition-rows", 20]
    coded = [*trained, "--modality", "image", "--out", "codes.zarr"]
    return Session(
        folder,
        address,
        run_command("ingest", "pairs.npz", "pairs.zarr", "--rows-per-chunk", 32, folder=folder),
        run_command("train", *options, folder=folder),
        run_command("encode", *coded, *there, folder=folder),
        run_command("evaluate", *trained, "--json", "scores.json", *there, folder=folder),
        run_command("report", "run", "--out", "page.html", folder=folder),
    )


@pytest.mark.parametrize("name", ["ingest", "train", "encode", "evaluate", "report"])
def test_every_command_succeeds_without_a_complaint(session, name):
    done = getattr(session, name)
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr):
        assert "Traceback" not in text
        assert "Warning" not in text
        assert "\x1b" not in text  # a pipe gets plain lines
        assert "\r" not in text


def test_ingest_says_what_it_made(session):
    text = session.ingest.stdout
    assert re.search(rf"^{ROWS} pairs in \S*pairs\.zarr$", text, re.M)
    assert "image: 20 dimensions" in text
    assert "side arrays: labels, split, titles" in text


def test_train_reports_its_stages_as_plain_lines_on_standard_error(session):
    lines = session.train.stderr.splitlines()
    assert all(re.match(r"\[ *\d+\.\d s\] +\S", line) for line in lines), lines
    text = session.train.stderr
    assert re.search(r"cluster: 2 workers of 1\.0 GiB$", text, re.M)
    plan = (
        r"\] plan: [\d,]+ rows; the [\w-]+ stage needs most memory, [\d,]+ of [\d,]+ MiB allowed "
        r"per worker; disk .*; computing takes under a minute at the default rates"
    )
    assert re.search(plan, text)
    assert "Z-step, per iteration" not in text  # the table is for --verbose
    assert re.search(r"graph image: exact, recall 1\.000, \d+ edges", text)
    assert re.search(r"iteration  1: objective", text)
    assert "stopped: " in text


def test_train_ends_with_a_table_examples_and_places(session):
    text = session.train.stdout
    for direction in ("image → text", "text → image"):
        assert re.search(rf"{direction} +0\.\d+", text)
    assert "MAP" in text
    assert re.search(r"pair \d+ 🦉 +pair \d+ 🦉 +pair \d+ 🦉", text)
    assert re.search(r"^run: .*run$", text, re.M)
    assert re.search(r"^page: .*run/report\.html$", text, re.M)
    (line,) = re.findall(r"^next: python -m srch_dist\.encode (.*)$", text, re.M)
    assert parse(EncodeOptions, "encode", shlex.split(line)).modality == "image"
    (line,) = re.findall(r"^then: python -m srch_dist\.search (.*)$", text, re.M)
    options = parse(SearchOptions, "search", shlex.split(line))
    assert (options.modality, options.codes) == ("text", "image-codes.zarr")


def test_report_writes_the_page_that_training_wrote(session):
    text = (session.folder / "page.html").read_text(encoding="utf-8")
    assert text == (session.folder / "run" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"pair \d+ 🦉", text)
    assert session.report.stdout == f"page: {session.folder / 'page.html'}\n"


def test_encode_writes_the_codes_of_the_model(session):
    codes = zarr.open_array(session.folder / "codes.zarr", mode="r")[:]
    rows = zarr.open_array(session.folder / "pairs.zarr" / "image", mode="r")[:]
    bits = numpy_bits(session.folder / "run" / "model.npz", "image", rows)
    np.testing.assert_array_equal(codes, np.packbits(bits, axis=1, bitorder="little"))
    assert "codes.zarr" in session.encode.stdout


def test_evaluate_writes_the_numbers_that_it_prints(session):
    scores = json.loads((session.folder / "scores.json").read_text())
    expected = evaluate_model(session.folder / "run", session.folder / "pairs.zarr")
    assert scores["map"] == pytest.approx(expected["map"])
    assert scores["train_codes"]["map"] == pytest.approx(expected["train_codes"]["map"])
    for direction, value in scores["map"].items():
        row = direction.replace("_to_", " → ")
        assert re.search(rf"{row} +{value:.3f}", session.evaluate.stdout)


def test_clusters_of_a_command_end_with_it(session):
    """No worker of the training's own cluster is left, and no scratch folder beside the run."""
    assert sorted(path.name for path in session.folder.iterdir()) == [
        "codes.zarr",
        "page.html",
        "pairs.npz",
        "pairs.zarr",
        "run",
        "scores.json",
    ]


def test_terminal_shows_stages_with_their_counts_and_time_left(session):
    """A pseudo-terminal gets live bars, redrawn in place, and the lines that stay."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        [*TRAIN, "--out", "seen", "--bits", "16", "--graph.k", "5", "--scheduler", session.address],
        cwd=session.folder,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    seen = bytearray()
    end = time.monotonic() + LIMIT
    try:
        while time.monotonic() < end:
            ready, _, _ = select.select([main], [], [], 0.2)
            if ready:
                try:
                    part = os.read(main, 65536)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                seen += part
            elif process.poll() is not None:
                break
        assert process.wait(timeout=LIMIT) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    text = seen.decode(errors="replace")
    for stage in ("features", "neighbours", "edges", "training", "evaluate"):
        assert re.search(rf"{stage} .*\d+/\d+", text), stage
    assert "\x1b[" in text
    assert re.search(r"\d:\d\d:\d\d", text)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "stopped: " in plain
    assert re.search(r"image → text +0\.\d+", plain)


HELP = {
    "ingest": ["--modalities", "--side", "--rows-per-chunk"],
    "train": [
        *("--config", "--data", "--out", "--bits", "--preset", "--scheduler", "--workers"),
        *("--memory-limit", "--seed", "--rows", "--queries", "--partition-rows", "--precision"),
        *("--workers-min", "--workers-wait"),
        *(
            "--baseline",
            "--report",
            "--graph.k",
            "--graph.symmetry",
            "--method.lam",
            "--method.alpha",
            "--method.encoder",
        ),
        *("--solver.tolerance", "--features.center"),
    ],
    "encode": [
        "--model",
        "--data",
        "--modality",
        "--out",
        "--append",
        "--delete",
        "--array",
        "--scheduler",
        "--workers",
    ],
    "evaluate": ["--model", "--data", "--json", "--scheduler", "--workers"],
    "serve": [
        *("--model", "--codes", "--data", "--host", "--port", "--hosts", "--images"),
        *("--thumbnail", "--max-top", "--max-queries", "--max-bytes"),
    ],
    "report": ["--out", "--figures"],
    "search": [
        *("--model", "--codes", "--query", "--query-file", "--text", "--modality", "--data"),
        *("--id", "--array", "--filter", "--show", "--json-lines"),
        *("--top", "--rerank", "--index", "--probes", "--json"),
    ],
    "export": [
        "--codes",
        "--format",
        "--out",
        "--data",
        "--columns",
        "--append",
        "--lists",
        "--seed",
    ],
}


@pytest.mark.parametrize("name", HELP)
def test_help_describes_every_option(tmp_path, name):
    done = run_command(name, "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    body = "\n".join(line.strip("│ ") for line in done.stdout.splitlines())
    # What stands in the list of options, from one option to the next.
    entries = re.split(r"\n(?=--?[a-z])", body.split("options", 1)[1])[1:]
    for option in HELP[name]:
        found = [entry for entry in entries if re.match(rf"{re.escape(option)}(?![\w-])", entry)]
        assert len(found) == 1, option
        words = re.findall(r"[a-z]{2,}", found[0].split("(default")[0])
        assert len(words) >= 3, found[0]
    for entry in entries:
        assert re.search(r"[a-z]{2,} [a-z]{2,}|[a-z]{3,}\.", entry), entry
    if name == "ingest":
        assert re.search(r"SOURCE\b", body)
        assert re.search(r"STORE\b", body)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ingest", ["nowhere.npz", "a.zarr"], r"nowhere\.npz does not exist"),
        ("ingest", ["text.npz", "a.zarr"], r"text\.npz is not a readable \.npz file"),
        ("train", ["--data", "nowhere.zarr"], r"nowhere\.zarr does not exist"),
        ("train", ["--bits", "12"], "bits.*multiple of 8"),
        ("train", ["--config", "bad.yaml"], r"bad\.yaml: unknown option method\.lamda; did you"),
        (
            "encode",
            [*("--model", "no-run", "--data", "nowhere.zarr"), *("--modality", "a", "--out", "b")],
            "nowhere|no-run",
        ),
        ("evaluate", ["--model", "no-run", "--data", "nowhere.zarr"], "nowhere|no-run"),
        (
            "search",
            ["--model", "no-run", "--codes", "no.zarr", "--query", "1"],
            "no-run does not exist",
        ),
        ("report", ["no-run"], "no-run does not exist"),
        ("export", ["--codes", "no.zarr", "--format", "npy", "--out", "a"], r"no\.zarr does not"),
    ],
)
def test_bad_input_ends_with_one_message_and_exit_code_2(tmp_path, name, arguments, message):
    (tmp_path / "text.npz").write_text("no zip file")
    (tmp_path / "bad.yaml").write_text("method: {lamda: 3}\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run_command(name, *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert done.stderr.splitlines()[-1] == errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_memory_that_cannot_hold_the_plan_is_refused_by_a_real_cluster(session):
    options = ["--data", "pairs.zarr", "--out", "small", "--graph.k", 5, "--memory-limit", "200MiB"]
    done = run_command("train", *options, "--workers", 1, folder=session.folder)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.search(r"error: .*needs \d+ MiB.*\d+ MiB are allowed: 80% of the 200 MiB limit", last)
    assert "Traceback" not in done.stderr
    assert not (session.folder / "small").exists()


def test_script_without_a_main_guard_is_told_so_and_leaves_no_run(session, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from srch_dist import build_config, train_model\n"
        f"data = {str(session.folder / 'pairs.zarr')!r}\n"
        "train_model(build_config({'data': data, 'out': 'run'}))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert 'under if __name__ == "__main__":' in done.stderr
    assert not (tmp_path / "run").exists()


def test_console_script_runs_every_command_by_name(session):
    script = Path(sys.executable).with_name("srch-dist")

    def call(*arguments):
        return subprocess.run(
            [script, *arguments],
            cwd=session.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    listed = call("--help")
    assert listed.returncode == 0
    for name in HELP:
        assert re.search(rf"^  {name} +\w+ \w+", listed.stdout, re.M), name
    wrong = call("serch")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: there is no command 'serch'; did you mean search?\n")
    version = call("--version")
    assert (version.returncode, version.stdout) == (0, f"srch-dist {srch_dist.__version__}\n")
    assert re.search(r"usage: srch-dist search ", call("search", "--help").stdout)
    found = call("search", "--model", "run", "--codes", "codes.zarr", "--query", "3", "--json")
    assert json.loads(found.stdout)[0]["results"][0]["distance"] == 0
    refused = call("export", "--codes", "nowhere", "--format", "npy", "--out", "a.npy")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_places_are_printed_as_they_are(monkeypatch, capsys):
    """Brackets are markup to what prints them: some would be left out, others an error."""
    run = RunResults(Path("/data/[old]/run"))
    store = SimpleNamespace(path="/data/[/x]/a.zarr", modalities={"image": 4})
    monkeypatch.setattr(train, "train_model", lambda *_: Trained(run, store, "", None))
    train.main([])
    shown = capsys.readouterr().out
    assert shown.startswith("run: /data/[old]/run\ndata: /data/[/x]/a.zarr\nnext: ")
    assert "--model '/data/[old]/run' --data '/data/[/x]/a.zarr'" in shown
    monkeypatch.setattr(certificates, "make_certificates", lambda *_: Path("[a]/[/b]"))
    certificates.main(["x"])
    assert capsys.readouterr().out.count("[a]/[/b]/ca.pem") == 4
