"""Interrupted work of the Python API: the exception says how to resume it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from srch_dist.errors import ClusterLostError


@contextmanager
def resume_note(call: str) -> Iterator[None]:
    """Add the call that resumes to an interruption, or to the loss of the cluster.

    Commands print the command line that resumes instead.
    """
    try:
        yield
    except (KeyboardInterrupt, ClusterLostError) as error:
        error.add_note(f"resume: finished work is kept. Call {call}")
        raise
