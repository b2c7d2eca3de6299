"""The protocol of progress displays, and displays for library use.

`cli.progress` shows bars at a terminal and plain lines elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import RenderableType


class ProgressStage(Protocol):
    """A running stage."""

    def advance(self, steps: float = 1) -> None:
        """Count steps as done."""


class Progress(Protocol):
    """A display of stages, messages and tables."""

    def stage(self, name: str, total: float) -> AbstractContextManager[ProgressStage]:
        """A context for a stage of ``total`` steps."""

    def note(self, message: str) -> None:
        """Show a line."""

    def show(self, item: RenderableType) -> None:
        """Show a table."""


class _Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[ProgressStage]:  # noqa: ARG002
        yield self

    def advance(self, steps: float = 1) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""

    def show(self, item: RenderableType) -> None:
        """Ignore."""


def silent() -> Progress:
    """A display that shows nothing, for library use."""
    return _Silent()


class _WithoutTables:
    """Another display without its tables."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def stage(self, name: str, total: float) -> AbstractContextManager[ProgressStage]:
        return self._inner.stage(name, total)

    def note(self, message: str) -> None:
        self._inner.note(message)

    def show(self, item: RenderableType) -> None:
        """Ignore."""


def without_tables(progress: Progress) -> Progress:
    """A display without tables, for many runs whose plans would hide their progress."""
    return _WithoutTables(progress)
