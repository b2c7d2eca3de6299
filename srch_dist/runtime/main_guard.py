"""A script without ``if __name__ == "__main__":``, whose local workers would run it again.

A worker process imports the script that started it. Without the guard it comes to the call that
starts workers, and Python refuses that with a traceback in every worker. Here such a worker leaves
a mark and ends silently; the script then learns the reason in one line.
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
    """End this process if it is a local worker that imports the script; call it before any work."""
    folder = os.environ.get(_FOLDER)
    # Python sets this attribute while a spawned process imports the script.
    if folder and getattr(multiprocessing.current_process(), "_inheriting", False):
        with suppress(OSError):
            Path(folder, _MARK).touch()
        raise SystemExit(1)


@contextmanager
def marking(folder: str | Path) -> Iterator[None]:
    """Let workers that start in the context leave their mark in a folder."""
    os.environ[_FOLDER] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_FOLDER, None)


def imported_again(folder: str | Path) -> bool:
    """Whether a worker has left its mark."""
    return Path(folder, _MARK).exists()
