"""Progress displays of the commands: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from srch_dist.runtime.progress import Progress, ProgressStage

# A line at most this often from a stage that is under way, where there is no terminal.
_SECONDS_BETWEEN_LINES = 10.0


# Columns of a table where there is no terminal.
_TABLE_WIDTH = 120


class _TerminalStage:
    def __init__(self, bars: Bars, name: str, total: float) -> None:
        self._bars = bars
        self._task = bars.add_task(name, total=total)

    def advance(self, steps: float = 1) -> None:
        self._bars.advance(self._task, steps)

    def close(self) -> None:
        self._bars.remove_task(self._task)


class _Terminal:
    """Live bars with time left, under the lines that stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[ProgressStage]:
        outermost = not self._bars.live.is_started
        if outermost:
            self._bars.start()
        stage = _TerminalStage(self._bars, name, total)
        try:
            yield stage
        finally:
            stage.close()
            if outermost:
                self._bars.stop()

    def note(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False)

    def show(self, item: RenderableType) -> None:
        self._console.print(item)


class _PlainStage:
    def __init__(self, show: _Plain, name: str, total: float) -> None:
        self._show, self._name, self._total = show, name, total
        self._done = 0.0
        self._started = self._last = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES and 0 < self._done < self._total:
            self._last = now
            left = (now - self._started) * (self._total / self._done - 1)
            self._show.note(f"{self._name}: {self._done:g} of {self._total:g}, {left:.0f} s left")


class _Plain:
    """Plain lines, each with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[ProgressStage]:
        yield _PlainStage(self, name, total)

    def note(self, message: str) -> None:
        line = f"[{time.monotonic() - self._started:7.1f} s] {message}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, item: RenderableType) -> None:
        page = Console(width=_TABLE_WIDTH, file=StringIO())
        with page.capture() as text:
            page.print(item)
        for line in text.get().splitlines():
            if line.strip():
                self.note(line.rstrip())


def on_console(console: Console | None = None) -> Progress:
    """Progress for a command: bars where standard error is a terminal, else plain lines."""
    console = console or Console(stderr=True)
    return _Terminal(console) if console.is_terminal else _Plain(console)
