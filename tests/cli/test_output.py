"""Output that cannot be written as it is: other encodings, closed pipes, text that acts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from io import StringIO

import pytest
from rich.table import Table

from srch_dist.cli.logs import LogOptions, report_end
from srch_dist.cli.progress import on_console
from srch_dist.cli.safe_text import SafeConsole
from srch_dist.report.render import render

pytestmark = pytest.mark.slow

HOSTILE = "\x1b[2J\x1b]52;c;cm0=\x07 \u202egnp.exe"


def acts(text: str) -> bool:
    return any(sign in text for sign in "\x1b\x07\u202e")


@pytest.mark.parametrize("terminal", [False, True])
def test_titles_notes_and_cells_do_not_act_on_the_console(terminal):
    console = SafeConsole(file=StringIO(), force_terminal=terminal, no_color=True, width=120)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    console.print(HOSTILE, markup=False, soft_wrap=True)
    shown = console.file.getvalue()
    assert "\\x1b[2J" in shown
    assert "\\u202egnp" in shown
    # Styles of rich's own remain on a terminal; nothing of the data does.
    assert not acts(shown.replace("\x1b[1m", "").replace("\x1b[3m", "").replace("\x1b[0m", ""))


def test_notes_errors_and_pages_do_not_act(capsys):
    on_console().note(HOSTILE)
    report_end(LogOptions(), f"error: {HOSTILE}", exit_code=2)
    assert not acts(capsys.readouterr().err)
    assert not acts(render("Run", HOSTILE, [], []))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_the_signs_shows_their_escapes(encoding):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "srch_dist.plan"),
            *("--pairs", "1000", "--dims", "image=8,text=8"),
        ],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Z-step" in done.stdout


def test_an_output_that_the_caller_closed_ends_quietly():
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m srch_dist.plan --pairs 1000 --dims a=8,b=8 >&-",
        shell=True,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["--pairs", "1000", "--dims", "a=8,b=8"]])
def test_a_closed_pipe_ends_quietly(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "srch_dist.plan", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()  # before the command has written a line
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert message == b""


def test_json_of_a_search_is_json_that_does_not_act(capsys):
    from srch_dist.cli.safe_text import dump_json

    print(dump_json([{"query": HOSTILE}]))
    shown = capsys.readouterr().out
    assert not acts(shown)
    assert json.loads(shown) == [{"query": HOSTILE}]
