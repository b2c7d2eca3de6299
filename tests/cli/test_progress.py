"""Progress: plain lines where nobody watches, bars at a terminal, nothing in a library."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from srch_dist.cli.progress import on_console
from srch_dist.runtime import progress
from srch_dist.runtime.progress import silent


@pytest.fixture
def plain():
    return Console(file=io.StringIO(), force_terminal=False, width=40)


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_notes_are_whole_lines_with_seconds_where_there_is_no_terminal(plain):
    message = "a note that is longer than the forty columns of the console [bold]and[/bold] more"
    on_console(plain).note(message)
    line = plain.file.getvalue()
    assert re.fullmatch(r"\[ +0\.\d s\] " + re.escape(message) + "\n", line)


def test_short_stages_print_nothing_where_there_is_no_terminal(plain):
    with on_console(plain).stage("features", 3) as stage:
        for _ in range(3):
            stage.advance()
    assert plain.file.getvalue() == ""


def test_long_stages_print_a_line_with_the_time_left_now_and_then(plain, clock):
    with on_console(plain).stage("neighbours", 100) as stage:
        for _ in range(40):
            clock[0] += 1
            stage.advance()
    lines = plain.file.getvalue().splitlines()
    assert len(lines) == 4  # one every ten seconds
    assert lines[0].endswith("neighbours: 10 of 100, 90 s left")
    assert lines[3].endswith("neighbours: 40 of 100, 60 s left")
    assert "\x1b" not in plain.file.getvalue()


def test_terminal_shows_the_stage_its_count_and_the_lines_that_stay(terminal):
    shown = on_console(terminal)
    with shown.stage("training", 20) as stage:
        stage.advance(7)
        shown.note("iteration 7")
        with shown.stage("neighbours", 2):
            pass
    text = terminal.file.getvalue()
    assert re.search(r"training.*7/20", text)
    assert "neighbours" in text
    assert "iteration 7" in text


def test_bars_are_gone_and_the_cursor_is_back_after_a_failure(terminal):
    shown = on_console(terminal)
    with pytest.raises(KeyError), shown.stage("training", 20):
        raise KeyError
    text = terminal.file.getvalue()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0
    with shown.stage("again", 1):  # and the next stage can start
        pass
    assert "again" in terminal.file.getvalue()


def test_silent_progress_counts_and_prints_nothing(capsys):
    shown = silent()
    shown.note("hello")
    with shown.stage("training", 2) as stage:
        stage.advance()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_progress_of_a_command_goes_to_standard_error(capsys):
    on_console().note("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("] hello\n")
