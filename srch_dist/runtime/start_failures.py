"""Why local workers did not start: the operating system's reason, and what to do about it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from srch_dist.storage.locations import NO_WORKING_FOLDER

_THREADS = "can't start new thread"
# Open files of this process per local worker, and of it alone, roughly.
_FILES_A_WORKER, _FILES = 16, 64


def explain_start(error: BaseException, workers: int) -> str:
    """Explain in one line why local workers did not start, and what to do."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return NO_WORKING_FOLDER
    for cause in _causes(error):
        if _THREADS in str(cause):
            return _processes(_THREADS, workers)
        if isinstance(cause, OSError) and cause.errno is not None:
            return _remedy(cause, workers)
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if open_files != resource.RLIM_INFINITY and open_files < _FILES + _FILES_A_WORKER * workers:
        return (
            f"{_line(error)}. The limit of open files, {open_files}, is low for {workers} workers. "
            "Raise the limit (ulimit -n 1024), or use fewer --workers"
        )
    return _line(error)


def _remedy(cause: OSError, workers: int) -> str:
    reason = _line(cause)
    if cause.errno in (errno.EMFILE, errno.ENFILE):
        return (
            f"{reason}. Raise the limit of open files (ulimit -n 1024), or use fewer --workers "
            f"than {workers}"
        )
    if cause.errno in (errno.EAGAIN, errno.ENOMEM):
        return _processes(reason, workers)
    if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{reason}. Set the variable TMPDIR to a writable folder with free space"
    return reason


def _processes(reason: str, workers: int) -> str:
    return (
        f"{reason}. The system allows no more processes, threads or memory: raise these limits "
        f"(ulimit -u, pids of the container), or use fewer --workers than {workers}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate over the causes of ``error``, from the original cause to ``error`` itself."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return reversed(chain)


def _line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        place = f": {error.filename}" if error.filename else ""
        return f"{os.strerror(error.errno)} ({errno.errorcode.get(error.errno, '?')}){place}"
    return " ".join(str(error).split()) or type(error).__name__
