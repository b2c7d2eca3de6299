"""Interrupted work of the Python API: the exception says how to resume the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from srch_dist.errors import ClusterLostError


@contextmanager
def resume_note(call: str | None) -> Iterator[None]:
    """Add a note to an interruption of this context: "finished work is kept. Call ``call``".

    An interruption is a KeyboardInterrupt or a ClusterLostError. The note replaces the note of an
    inner `resume_note`. If ``call`` is None, nothing is kept, and the inner note is removed.
    Commands do not show the note; they print the command line that resumes.
    """
    try:
        yield
    except (KeyboardInterrupt, ClusterLostError) as error:
        error.__notes__ = [f"resume: finished work is kept. Call {call}"] if call else []
        raise
