"""Logs: JSON lines of commands, levels, and records for an application that uses the library."""

from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from srch_dist.cli.command import parse, run_command
from srch_dist.cli.logs import LogOptions, find_log_options
from srch_dist.cli.progress import on_console
from srch_dist.config.identity import dump_config
from srch_dist.config.loading import load_config
from srch_dist.config.options import ClusterOptions
from srch_dist.errors import InputError
from srch_dist.ingest import __main__ as ingest
from srch_dist.runtime import progress
from srch_dist.runtime.progress import silent
from srch_dist.train import __main__ as train
from tests.helpers.commands import LIMIT
from tests.helpers.commands import run_command as run_process
from tests.helpers.runs import make_pairs, make_store, no_cluster, train_here

pytestmark = pytest.mark.cluster

JSON = ("--log-format", "json")


def records_of(text: str) -> list[dict]:
    """The records in the lines of a log, each of which has to be a JSON object."""
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        assert set(record) >= {"time", "level", "logger", "topic", "message"}
        age = datetime.now(UTC) - datetime.fromisoformat(record["time"])
        assert timedelta(seconds=-1) <= age < timedelta(minutes=10)
    return records


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A store, and commands that run here without a cluster."""
    make_store(tmp_path, **make_pairs())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
    return tmp_path


@pytest.mark.cluster
def test_every_line_of_a_training_is_json(tmp_path):
    make_store(tmp_path, **make_pairs())
    options = ["--data", "pairs.zarr", "--out", "run", "--bits", 16, "--graph.k", 5]
    options += ["--workers", 1, "--memory-limit", "1GiB", *JSON, "--log-level", "debug"]
    done = run_process("train", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    records = records_of(done.stderr)
    own = [record for record in records if record["logger"] == "srch_dist"]
    assert {record["level"] for record in own} <= {"debug", "info", "warning"}
    topics = [record["topic"] for record in own]
    assert {"plan", "graph image", "graph text", "iteration 1", "features"} <= set(topics)
    ends = [one for one in own if one.get("stage") == "features" and "seconds" in one]
    assert ends
    assert all(one["done"] == one["total"] > 0 for one in ends)
    # The result stays on standard output, as a table.
    assert "MAP" in done.stdout
    assert "log_format" not in (tmp_path / "run" / "config.yaml").read_text()


def test_an_error_is_json_with_the_exit_code(tmp_path):
    done = run_process("train", "--data", "nowhere.zarr", *JSON, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (record,) = records_of(done.stderr)
    assert (record["level"], record["topic"], record["exit_code"]) == ("error", "error", 2)
    assert "nowhere.zarr does not exist" in record["message"]


@pytest.mark.usefixtures("here")
def test_an_error_of_the_parser_is_json_too(capsys):
    for arguments in (["--bit", "8"], ["--preset"], ["--bits", "eight"]):
        with pytest.raises(SystemExit) as end:
            train.main([*arguments, *JSON])
        assert end.value.code == 2
        shown = capsys.readouterr()
        (record,) = records_of(shown.err)
        assert shown.out == ""
        assert record["exit_code"] == 2
        assert arguments[0] in record["message"]
        assert "│" not in record["message"]


@pytest.mark.usefixtures("here")
def test_an_unexpected_error_is_json_with_its_traceback(monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(train, "train_model", fail)
    with pytest.raises(SystemExit) as end:
        train.main([*JSON])
    assert end.value.code == 1
    (record,) = records_of(capsys.readouterr().err)
    assert record["level"] == "critical"
    assert record["message"] == "error: ZeroDivisionError: one\ntwo"
    assert "in fail" in record["traceback"]


@pytest.mark.usefixtures("here")
def test_an_interruption_is_json_with_the_line_that_resumes(monkeypatch, capsys):
    def interrupted(*_):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(train, "train_model", interrupted)
    with pytest.raises(SystemExit) as end:
        train.main(["--out", "a b", *JSON])
    assert end.value.code == 75
    first, second = records_of(capsys.readouterr().err)
    assert (first["message"], first["exit_code"]) == ("interrupted", 75)
    line = "python -m srch_dist.train --out 'a b' --log-format json --resume"
    assert second["resume"] == line
    assert second["message"].endswith(f"Run: {line}")


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", {"debug", "info", "warning"}),
        ("info", {"info", "warning"}),
        ("warning", {"warning"}),
        ("error", set()),
    ],
)
@pytest.mark.usefixtures("here")
def test_json_holds_the_levels_from_the_one_named(capsys, level, levels):
    narrow = ["--method.loop_bits", "16", "--no-baseline", "--no-report"]
    data = ["--data", "pairs.zarr", "--out", "run", "--bits", "16", "--graph.k", "5"]
    train.main([*data, *narrow, *JSON, "--log-level", level])
    records = records_of(capsys.readouterr().err)
    assert {record["level"] for record in records} == levels
    advice = [record["message"] for record in records if record["level"] == "warning"]
    assert len(advice) == (1 if levels else 0)  # text has fewer dimensions than bits


def test_verbose_shows_the_tables_of_the_plan(here, capsys):
    data = ["--data", "pairs.zarr", "--bits", "8", "--graph.k", "5", "--no-baseline"]
    for out, *flags in (("brief",), ("tables", "-v")):
        train.main([*data, "--no-report", "--out", out, *flags])
        shown = capsys.readouterr().err
        assert "--verbose shows each stage" in shown
        assert ("Z-step, per iteration" in shown) == bool(flags)
        assert ("features: started, " in shown) == bool(flags)
    assert "verbose" not in (here / "tables" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["one: 2 steps", "note", "warning: advice", "table"]),
        ("info", ["note", "warning: advice", "table"]),
        ("warning", ["warning: advice"]),
        ("error", []),
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
def test_plain_output_holds_the_levels_from_the_one_named(level, shown, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, legacy_windows=False)
    report = on_console(console, LogOptions(log_level=level).level)
    with report.stage("one", 2) as stage:
        stage.advance(2)
        report.note("note")
        report.warn("advice")
    table = Table("table")
    table.add_row("cell")
    report.show(table)
    detail = Table("detail")
    detail.add_row("cell")
    report.show(detail, "brief: 1")
    text = console.file.getvalue()
    assert ("brief: 1" in text) == (level in ("debug", "info"))
    assert ("detail" in text) == (level == "debug")
    for line in ("note", "warning: advice", "table"):
        assert (line in text) == (line in shown), line
    assert ("one: started, 2 steps" in text) == (level == "debug")
    assert ("one: 2 of 2 in " in text) == (level == "debug")
    if terminal:  # bars are for those who want results
        assert ("0/2" in text) == (level in ("debug", "info"))


def test_warnings_and_other_packages_are_json_lines():
    """In a process of its own: pytest collects warnings itself."""
    program = """
import logging, sys, warnings
from srch_dist.cli.logs import LogOptions, reporting
own = logging.getLogger("dask.own")
own.addHandler(logging.StreamHandler(sys.stderr))
own.propagate = False
with reporting(LogOptions("json")):
    own.error("a worker %s", "died")
    logging.getLogger("elsewhere").warning("odd")
    warnings.warn("old")
own.error("plain again")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT
    )
    *lines, last = done.stderr.splitlines()
    assert last == "plain again"
    logged = {record["logger"]: record for record in records_of("\n".join(lines))}
    assert logged["dask.own"]["message"] == "a worker died"
    assert logged["elsewhere"]["level"] == "warning"
    assert "UserWarning: old" in logged["py.warnings"]["message"]


@pytest.mark.usefixtures("here")
def test_a_command_leaves_logging_as_it_was(capsys):
    logger = logging.getLogger("srch_dist")
    before = (logger.level, logger.propagate, list(logger.handlers), list(logging.root.handlers))
    with pytest.raises(SystemExit):
        train.main(["--data", "nowhere", *JSON])
    capsys.readouterr()
    after = (logger.level, logger.propagate, list(logger.handlers), list(logging.root.handlers))
    assert after == before


def test_a_long_stage_reports_its_counts(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "srch_dist")
    with silent().stage("image: neighbours", 100) as stage:
        for _ in range(40):
            now[0] += 1
            stage.advance()
    assert [record.fields["done"] for record in caplog.records] == [10, 20, 30, 40]
    first = caplog.records[0]
    assert first.getMessage() == "image: neighbours: 10 of 100, 90 s left"
    assert first.topic == "image: neighbours"
    assert first.fields == {
        "stage": "image: neighbours",
        "done": 10,
        "total": 100,
        "seconds_left": 90,
    }


@pytest.mark.parametrize(
    ("message", "topic"),
    [
        ("graph image: method=exact recall@10=1.000", "graph image"),
        ("iteration  1: objective 3", "iteration 1"),
        ("2 workers of 1.0 GiB, dashboard http://127.0.0.1:8787/status", None),
        ("100 % of it", None),
    ],
)
def test_a_record_has_the_topic_that_its_message_starts_with(caplog, message, topic):
    caplog.set_level(logging.INFO, "srch_dist")
    silent().note(message)
    (record,) = caplog.records
    assert (record.getMessage(), record.topic) == (message, topic)


def test_library_use_logs_and_prints_nothing(tmp_path, caplog, capsys):
    store = make_store(tmp_path / "data", **make_pairs())
    caplog.set_level(logging.DEBUG, "srch_dist")
    capsys.readouterr()
    train_here(store.path, tmp_path / "run", method={"loop_bits": 16})
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
    own = [record for record in caplog.records if record.name == "srch_dist"]
    by_level = {
        level: [one for one in own if one.levelname == level] for level in ("DEBUG", "INFO")
    }
    assert any(one.fields.get("stage") == "training" for one in by_level["DEBUG"])
    assert {"graph image", "iteration 1", "stopped", "plan"} <= {
        one.topic for one in by_level["INFO"]
    }
    (advice,) = [one.getMessage() for one in own if one.levelname == "WARNING"]
    assert "12 dimensions" in advice


def test_nothing_is_printed_by_a_library_without_a_logging_configuration(tmp_path):
    np.savez(tmp_path / "pairs.npz", **make_pairs())
    program = (
        "from srch_dist import ingest_source\n"
        "from srch_dist.runtime.progress import silent\n"
        "silent().warn('advice')\n"
        "ingest_source('pairs.npz', 'pairs.zarr')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_log_options_are_no_options_of_a_run(here, capsys):
    data = ["--data", "pairs.zarr", "--bits", "16", "--graph.k", "5", "--no-baseline"]
    for name, options in (("a", []), ("b", [*JSON, "--log-level", "error"])):
        train.main([*data, "--out", name, *options])
    capsys.readouterr()
    a, b = (load_config(here / name / "config.yaml") for name in "ab")
    assert dump_config(a).replace("out: a\n", "out: b\n") == dump_config(b)


def test_log_options_are_found_before_parsing():
    assert find_log_options([]) == LogOptions("plain", "info")
    assert find_log_options(["--bits", "8", "--log-format=json"]) == LogOptions("json", "info")
    assert find_log_options(["--log_level", "error", "x"]) == LogOptions("plain", "error")
    for flag in ("-v", "--verbose"):
        words = ["--log-level", "error", flag, "--bits", "8"]
        assert find_log_options(words).level == logging.DEBUG
        assert parse(ClusterOptions, "encode", [flag]).log.level == logging.DEBUG
    # The parser refuses these.
    assert find_log_options(["--log-format", "xml", "--log-level"]) == LogOptions()


@pytest.mark.parametrize(
    "arguments", [["--log-format", "xml"], ["--log-level", "loud"], ["--log-format"]]
)
def test_wrong_log_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        ingest.main(["a.npz", "b.zarr", *arguments])
    assert end.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_every_command_reports_as_the_options_say(capsys):
    def work(options, shown):
        assert options.workers == 3
        shown.note("topic: noted")
        raise InputError("image row 3: NaN")

    for arguments in ([], [*JSON]):
        with pytest.raises(SystemExit) as end:
            run_command("encode", ClusterOptions, work, ["--workers", "3", *arguments])
        assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("s] topic: noted")
    assert lines[1] == "error: image row 3: NaN"
    assert [json.loads(line)["message"] for line in lines[2:]] == [
        "topic: noted",
        "error: image row 3: NaN",
    ]
    assert parse(ClusterOptions, "encode", []).tls == ClusterOptions().tls
