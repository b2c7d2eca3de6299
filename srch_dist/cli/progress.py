"""Progress displays of the commands: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from srch_dist.cli.safe_text import SafeConsole
from srch_dist.runtime.progress import LogProgress, Progress, ProgressStage, log_record, table_lines

# Stages of which each step prints a line of its own.
_REPORTED = frozenset({"training"})


class _Display(LogProgress, ABC):
    """Logs like `LogProgress`, and prints messages of at least ``level`` on a console."""

    def __init__(self, console: Console, level: int) -> None:
        self._console, self._level = console, level

    def emit(self, level: int, message: str, **fields: Any) -> None:
        log_record(level, message, **fields)
        if level >= self._level:
            self._print(f"warning: {message}" if level == logging.WARNING else message)

    def show(self, item: RenderableType, summary: str | None = None) -> None:
        level = logging.INFO
        if summary is not None:
            self.note(summary)
            level = logging.DEBUG
        log_record(level, "\n".join(table_lines(item)))
        if level >= self._level:
            self._print_table(item)

    @abstractmethod
    def _print_table(self, item: RenderableType) -> None:
        """Print a table."""

    @abstractmethod
    def _print(self, line: str) -> None:
        """Print one line."""


class _BarStage:
    """A stage whose steps advance a counter and a progress bar."""

    def __init__(self, bars: Bars, name: str, total: float, counted: ProgressStage) -> None:
        self._bars, self._counted = bars, counted
        self._task = bars.add_task(name, total=total)

    def advance(self, steps: float = 1) -> None:
        self._counted.advance(steps)
        self._bars.advance(self._task, steps)

    def close(self) -> None:
        self._bars.remove_task(self._task)


class _Terminal(_Display):
    """Display for a terminal: messages, and below them progress bars with the remaining time."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(console, level)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=level > logging.INFO,
        )

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[ProgressStage]:
        outermost = not self._bars.live.is_started
        if outermost:
            self._bars.start()
        try:
            with super().stage(name, total) as counted:
                bar = _BarStage(self._bars, name, total, counted)
                try:
                    yield bar
                finally:
                    bar.close()
        finally:
            if outermost:
                self._bars.stop()

    def emit(self, level: int, message: str, **fields: Any) -> None:
        if level == logging.INFO and "stage" in fields:
            log_record(level, message, **fields)  # not printed, because the bar shows it
        else:
            super().emit(level, message, **fields)

    def _print_table(self, item: RenderableType) -> None:
        self._console.print(item)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)


class _Plain(_Display):
    """Display of plain lines, each with the seconds since the start."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(console, level)
        self._started = time.monotonic()

    def emit(self, level: int, message: str, **fields: Any) -> None:
        if level == logging.INFO and fields.get("stage") in _REPORTED:
            log_record(level, message, **fields)
        else:
            super().emit(level, message, **fields)

    def _print_table(self, item: RenderableType) -> None:
        for line in table_lines(item):
            self._print(line)

    def _print(self, line: str) -> None:
        stamped = f"[{time.monotonic() - self._started:7.1f} s] {line}"
        self._console.print(stamped, highlight=False, markup=False, soft_wrap=True)


def on_console(console: Console | None = None, level: int = logging.INFO) -> Progress:
    """Create a progress display: bars if the console is a terminal, plain lines otherwise.

    Parameters
    ----------
    console : console to print on; default: standard error.
    level : lowest level of `logging` to show; bars are shown at INFO or lower.
    """
    console = console or SafeConsole(stderr=True)
    kind = _Terminal if console.is_terminal else _Plain
    return kind(console, level)
