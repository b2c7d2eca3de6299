"""Progress of long work, sent to the logger `srch_dist`; displays of the commands build on it.

A message starts with its topic, then a colon and a space, as ``graph image: recall@10=0.971``.
Records carry two extra attributes: ``topic``, and ``fields`` with the values of a JSON line.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import StringIO
from typing import Any, Protocol

from rich.console import Console, RenderableType

LOGGER = logging.getLogger("srch_dist")
# Each stage reports at most once in this interval.
REPORT_SECONDS = 10.0
# Columns of a table where there is no terminal.
TABLE_WIDTH = 120
_TOPIC = re.compile(r"([^:,]{1,40}): ")


class ProgressStage(Protocol):
    """A running stage."""

    def advance(self, steps: float = 1) -> None:
        """Count ``steps`` as done."""


class Progress(Protocol):
    """Receiver of stages, messages and tables."""

    def stage(self, name: str, total: float) -> AbstractContextManager[ProgressStage]:
        """A context for a stage of ``total`` steps."""

    def note(self, message: str) -> None:
        """Report a result; ``message`` starts with its topic."""

    def warn(self, message: str) -> None:
        """Give advice on data or options that work, but worse than they could."""

    def show(self, item: RenderableType) -> None:
        """Report a table."""


class CountedStage:
    """Counts steps, and reports them at most every `REPORT_SECONDS`."""

    def __init__(self, emit: Callable[..., None], name: str, total: float) -> None:
        self._emit, self._name, self._total = emit, name, total
        self._done = 0.0
        self._started = self._last = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        """Count ``steps`` as done."""
        self._done += steps
        now = time.monotonic()
        if now - self._last >= REPORT_SECONDS and 0 < self._done < self._total:
            self._last = now
            left = (now - self._started) * (self._total / self._done - 1)
            message = f"{self._done:g} of {self._total:g}, {left:.0f} s left"
            self._report(logging.INFO, message, seconds_left=round(left, 1))

    def start(self) -> None:
        """Report the begin."""
        self._report(logging.DEBUG, f"started, {self._total:g} steps")

    def close(self) -> None:
        """Report the end."""
        seconds = time.monotonic() - self._started
        message = f"{self._done:g} of {self._total:g} in {seconds:.1f} s"
        self._report(logging.DEBUG, message, seconds=round(seconds, 3))

    def _report(self, level: int, message: str, **fields: Any) -> None:
        counts = {"stage": self._name, "done": self._done, "total": self._total}
        self._emit(level, f"{self._name}: {message}", **counts, **fields)


class LogProgress:
    """Progress that goes to the logger `srch_dist` alone; displays override `emit`."""

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[ProgressStage]:
        """A context for a stage of ``total`` steps."""
        stage = CountedStage(self.emit, name, total)
        stage.start()
        try:
            yield stage
        finally:
            stage.close()

    def note(self, message: str) -> None:
        """Log at INFO."""
        self.emit(logging.INFO, message)

    def warn(self, message: str) -> None:
        """Log at WARNING."""
        self.emit(logging.WARNING, message)

    def show(self, item: RenderableType) -> None:
        """Log the text of a table at INFO."""
        if LOGGER.isEnabledFor(logging.INFO):
            self.emit(logging.INFO, "\n".join(table_lines(item)))

    def emit(self, level: int, message: str, **fields: Any) -> None:
        """Report a message with the ``fields`` of a JSON line."""
        log_record(level, message, **fields)


def silent() -> Progress:
    """Progress for library use: it goes to `logging` and prints nothing."""
    return LogProgress()


def log_record(level: int, message: str, **fields: Any) -> None:
    """Log a message, with its topic and ``fields`` as attributes of the record.

    The topic is the stage if there is one, else what the message starts with.
    """
    match = _TOPIC.match(message)
    topic = fields.get("stage") or (" ".join(match[1].split()) if match else None)
    # No arguments: the message may hold percent signs.
    LOGGER.log(level, message, extra={"topic": topic, "fields": fields})


def table_lines(item: RenderableType) -> list[str]:
    """The lines of a table, without blank ones."""
    console = Console(width=TABLE_WIDTH, file=StringIO())
    with console.capture() as text:
        console.print(item)
    return [line.rstrip() for line in text.get().splitlines() if line.strip()]


class _WithoutTables:
    """Forwards stages and messages, and drops tables."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def stage(self, name: str, total: float) -> AbstractContextManager[ProgressStage]:
        return self._inner.stage(name, total)

    def note(self, message: str) -> None:
        self._inner.note(message)

    def warn(self, message: str) -> None:
        self._inner.warn(message)

    def show(self, item: RenderableType) -> None:
        """Drop the table."""


def without_tables(progress: Progress) -> Progress:
    """Progress that shows no tables. With many runs, the plans would hide the results."""
    return _WithoutTables(progress)
