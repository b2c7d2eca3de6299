"""Interrupted work of the Python API: the exception says how to resume it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from srch_dist.errors import ClusterLostError


@contextmanager
def resume_note(call: str | None) -> Iterator[None]:
    """Add the call that resumes to an interruption, or to the loss of the cluster.

    It replaces the note of an inner call. None removes that note, if nothing is kept. Commands
    print the command line that resumes instead.
    """
    try:
        yield
    except (KeyboardInterrupt, ClusterLostError) as error:
        error.__notes__ = [f"resume: finished work is kept. Call {call}"] if call else []
        raise
