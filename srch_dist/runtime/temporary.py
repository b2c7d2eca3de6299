"""Find writable temporary folders, and a cache folder for compiled code, before work begins.

The owner of a temporary folder holds a kernel lock on a file in it. The kernel releases the lock
when the owner ends, also if the owner is killed. The next process removes folders whose lock is
free.

In a container, the user may have no right to write to the temporary folder, the home folder and
site-packages: the file system is read-only, or another user owns the files. Numba then fails when a
process imports a module with cached functions.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from srch_dist.errors import StorageError

# The package whose functions Numba compiles and caches.
CACHED_MODULE = "pynndescent"
CACHE_VARIABLE = "NUMBA_CACHE_DIR"
_PREFIX, _LOCK = "srch-dist-", "owner.lock"
# How `tempfile` begins its message when it finds no folder.
_NO_FOLDER = "No usable temporary directory"


def temporary_folder(prefix: str = _PREFIX) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder; remove it when the returned object is deleted or its context ends.

    First removes the folders of killed processes of this user. ``prefix`` must begin with
    `_PREFIX`.

    Raises
    ------
    StorageError : no temporary folder is writable.
    """
    try:
        remove_abandoned()
        return _OwnedFolder(prefix)
    except OSError as error:
        raise StorageError(_refusal(error)) from None


class _OwnedFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder, locked by the process that made it."""

    def __init__(self, prefix: str) -> None:
        # A worker that is just ending may still write into it.
        super().__init__(prefix=prefix, ignore_cleanup_errors=True)
        # Locked before it gets its name: no other process sees it without its lock.
        new = Path(self.name) / f"{_LOCK}.new"
        self._lock = new.open("xb")
        with suppress(OSError):  # without kernel locks, a killed process leaves its folder
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(new.with_name(_LOCK))


def remove_abandoned() -> None:
    """Remove folders that `temporary_folder` made for this user's processes that have ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if _is_own(folder) and _is_abandoned(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _is_abandoned(lock: Path) -> bool:
    """Whether no process holds the lock; raises OSError if there is no lock file."""
    file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def missing_folder(error: OSError) -> str | None:
    """Return a message if ``error`` means that no temporary folder is writable, else None."""
    return _refusal(error) if _NO_FOLDER in str(error) else None


def lacks_cache_folder(module: str) -> bool:
    """Whether none of Numba's usual cache folders for ``module`` is writable."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return False
    # Numba's order: the variable, beside the source, the user's cache.
    given = os.environ.get(CACHE_VARIABLE)
    places = [Path(given)] if given else []
    places.append(Path(spec.origin).parent / "__pycache__")
    with suppress(RuntimeError):  # this user has no home
        user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        places.append(Path(user).expanduser() / "numba")
    return not any(_is_writable(place) for place in places)


def prepare_compiler_cache(module: str) -> None:
    """Give Numba a temporary cache folder if none of its usual cache folders is writable.

    Call this function before this process imports ``module``.

    Raises
    ------
    StorageError : no temporary folder is writable.
    """
    if module in sys.modules or not lacks_cache_folder(module):
        return
    os.environ[CACHE_VARIABLE] = str(Path(_own_folder()) / "numba")
    numba: Any = sys.modules.get("numba")
    if numba is not None:  # it reads the variable at its import only
        numba.config.CACHE_DIR = os.environ[CACHE_VARIABLE]


def _own_folder() -> str:
    """Return the scratch folder of this Dask worker; in other processes, a temporary folder."""
    import distributed  # commands import this module before they need Dask

    with suppress(ValueError):
        return str(distributed.get_worker().local_directory)
    return _kept_folder().name


@cache
def _kept_folder() -> tempfile.TemporaryDirectory[str]:
    return temporary_folder()


def _is_writable(folder: Path) -> bool:
    """Whether a folder is writable; makes the folder if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # a read-only mount refuses this, also for root
    except OSError:
        return False
    return True


def _refusal(error: OSError) -> str:
    return (
        f"no temporary folder is writable ({error.strerror or error}). Set TMPDIR to a folder that "
        "this user can write to."
    )
