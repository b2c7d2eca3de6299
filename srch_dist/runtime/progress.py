"""Progress of long work, sent to the logger `srch_dist`; the commands' displays extend it.

A message starts with its topic, a colon and a space, such as ``graph image: recall@10=0.971``. A
log record has two extra attributes: ``topic``, and ``fields`` with the values of a JSON line.
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
# Minimum seconds between two reports of a stage.
REPORT_SECONDS = 10.0
# Width of a table in characters, if the output is no terminal.
TABLE_WIDTH = 120
_TOPIC = re.compile(r"([^:,]{1,40}): ")


class ProgressStage(Protocol):
    """A running stage of work, which counts its steps."""

    def advance(self, steps: float = 1) -> None:
        """Add ``steps`` to the number of finished steps."""


class Progress(Protocol):
    """Interface that receives stages, messages and tables of a running command."""

    def stage(self, name: str, total: float) -> AbstractContextManager[ProgressStage]:
        """Open a context for a stage of ``total`` steps."""

    def note(self, message: str) -> None:
        """Report a result; ``message`` starts with its topic."""

    def warn(self, message: str) -> None:
        """Warn of data or options that are valid but give worse results or more cost."""

    def show(self, item: RenderableType, summary: str | None = None) -> None:
        """Show a table, or its one-line ``summary`` if given; then the table is logged at DEBUG."""


# The public name, so that pickles survive moves of modules.
Progress.__module__ = "srch_dist"


class CountedStage:
    """Counts the steps of a stage, and reports the count at most every `REPORT_SECONDS`."""

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
        """Report that the stage starts."""
        self._report(logging.DEBUG, f"started, {self._total:g} steps")

    def close(self) -> None:
        """Report that the stage ends, with its seconds."""
        seconds = time.monotonic() - self._started
        message = f"{self._done:g} of {self._total:g} in {seconds:.1f} s"
        self._report(logging.DEBUG, message, seconds=round(seconds, 3))

    def _report(self, level: int, message: str, **fields: Any) -> None:
        counts = {"stage": self._name, "done": self._done, "total": self._total}
        self._emit(level, f"{self._name}: {message}", **counts, **fields)


class LogProgress:
    """Progress, only to the logger `srch_dist`; display classes override `emit`."""

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[ProgressStage]:
        """Open a context for a stage of ``total`` steps."""
        stage = CountedStage(self.emit, name, total)
        stage.start()
        try:
            yield stage
        finally:
            stage.close()

    def note(self, message: str) -> None:
        """Log a result at INFO."""
        self.emit(logging.INFO, message)

    def warn(self, message: str) -> None:
        """Log a warning at WARNING."""
        self.emit(logging.WARNING, message)

    def show(self, item: RenderableType, summary: str | None = None) -> None:
        """Log a table at INFO. With a ``summary``, log the summary at INFO, the table at DEBUG."""
        level = logging.INFO
        if summary is not None:
            self.note(summary)
            level = logging.DEBUG
        if LOGGER.isEnabledFor(level):
            self.emit(level, "\n".join(table_lines(item)))

    def emit(self, level: int, message: str, **fields: Any) -> None:
        """Log a message; ``fields`` are added to its JSON line."""
        log_record(level, message, **fields)


def silent() -> Progress:
    """Return a `Progress` for library use, which writes to `logging` and prints nothing."""
    return LogProgress()


def log_record(level: int, message: str, **fields: Any) -> None:
    """Log a message, with its topic and ``fields`` as attributes of the log record.

    The topic is the field ``stage`` if given, else the text before the first colon.
    """
    match = _TOPIC.match(message)
    topic = fields.get("stage") or (" ".join(match[1].split()) if match else None)
    # No arguments: the message may hold percent signs.
    LOGGER.log(level, message, extra={"topic": topic, "fields": fields})


def table_lines(item: RenderableType) -> list[str]:
    """Render a table as plain text lines, without blank lines."""
    # Brackets in names are no markup.
    console = Console(width=TABLE_WIDTH, file=StringIO(), markup=False, emoji=False)
    with console.capture() as text:
        console.print(item)
    return [line.rstrip() for line in text.get().splitlines() if line.strip()]


class _WithoutTables:
    """Forwards stages and messages to another `Progress`, and drops tables."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def stage(self, name: str, total: float) -> AbstractContextManager[ProgressStage]:
        return self._inner.stage(name, total)

    def note(self, message: str) -> None:
        self._inner.note(message)

    def warn(self, message: str) -> None:
        self._inner.warn(message)

    def show(self, item: RenderableType, summary: str | None = None) -> None:
        """Drop the table ``item`` and its summary."""


def without_tables(progress: Progress) -> Progress:
    """Wrap ``progress`` to drop tables, so that a sweep does not show a plan for each run."""
    return _WithoutTables(progress)
