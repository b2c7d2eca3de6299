"""Detect a script without ``if __name__ == "__main__":``, and report it in one line.

A worker process imports the script that started the worker. Without that line (the main guard),
the worker also runs the call that starts workers, and Python would print a traceback in every
worker. Instead, the worker writes a marker file and exits silently. The script finds the file and
raises one error.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER, _MARK = "SRCH_DIST_STARTING_WORKERS", "script-imported-again"

MESSAGE = (
    "the script has no main guard, so every local worker runs all of it again. Put the code that "
    'trains under if __name__ == "__main__":'
)


def end_second_import() -> None:
    """End this process if it is a local worker that imports the script; call this first."""
    folder = os.environ.get(_FOLDER)
    # Python sets this attribute while a spawned process imports the script.
    if folder and getattr(multiprocessing.current_process(), "_inheriting", False):
        with suppress(OSError):
            Path(folder, _MARK).touch()
        raise SystemExit(1)


@contextmanager
def marking(folder: str | Path) -> Iterator[None]:
    """Make workers that start in this context write the marker file to ``folder``."""
    os.environ[_FOLDER] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_FOLDER, None)


def imported_again(folder: str | Path) -> bool:
    """Whether a worker wrote the marker file: it has imported a script without a main guard."""
    return Path(folder, _MARK).exists()
