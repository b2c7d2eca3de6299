"""Exceptions of the package: subclasses of `SrchError`, whose messages say what to do."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import re
from collections.abc import Mapping
from types import ModuleType


class SrchError(Exception):
    """Base class. The message is for the user: commands print it and exit with code 2.

    Two subclasses have other exit codes: StorageUnavailableError 74, ClusterLostError 75.
    """


class ConfigError(SrchError):
    """An option is unknown, has the wrong type or is out of range."""


class InputError(SrchError):
    """Data cannot be used. The message names the array, the rows and the remedy."""


class TrainingError(SrchError):
    """Training failed with these options: the codes collapsed, or CG did not converge."""


class StorageError(SrchError):
    """A store or run directory is missing, unfinished, in use or damaged."""


class StorageUnavailableError(StorageError):
    """A disk or store went away or is full. The input is sound: commands exit with 74."""


class ClusterError(SrchError):
    """A Dask cluster does not answer, has no workers, or has workers that cannot do the work."""


class PlanError(SrchError):
    """The planned work does not fit in memory or on disk. The message names need and limit."""


class ExtraError(SrchError):
    """An optional package is not installed. The message names the extra that installs it."""


class WorkersKilledError(ClusterError):
    """A task repeatedly lost its worker, most often because memory ran out."""


class ClusterLostError(ClusterError):
    """The connection to the cluster was lost during the work. The run can resume."""


# Pickles store this public name, so they can be loaded after the module moves.
SrchError.__module__ = "srch_dist"


# Codes of a disk that went away, failed or is full, as far as the platform has them. A disk becomes
# read-only (EROFS) after errors.
_OUTAGES = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ENODEV", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EREMOTEIO", "ENOLINK"),
        *("EROFS", "ENOSPC", "EDQUOT", "EFBIG"),
    )
    if hasattr(errno, name)
)
# HDF5 states the code in its message alone.
_STATED = re.compile(r"\berrno = (\d+)")


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` means that a disk or store went away, failed or is full (an outage)."""
    if isinstance(error, StorageUnavailableError):
        return True
    if not isinstance(error, OSError):
        return False
    stated = _STATED.search(str(error)) if error.errno is None else None
    return (int(stated.group(1)) if stated else error.errno) in _OUTAGES


def refusal(kind: type[SrchError], message: str, cause: BaseException) -> SrchError:
    """Return an error of class ``kind``; a StorageUnavailableError if ``cause`` is an outage."""
    return (StorageUnavailableError if is_outage(cause) else kind)(message)


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional dependency.

    Parameters
    ----------
    module : dotted name, such as ``matplotlib.figure``.
    extra : name of this package's optional extra that installs the module, such as ``report``.
    purpose : what needs the module; the subject of the error message.

    Raises
    ------
    ExtraError : the module cannot be imported.
    StorageError : the module cannot write a folder that it needs, such as Matplotlib's cache.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ExtraError(
            f"{purpose} needs {package}, which cannot be imported ({error}). {install_hint(extra)}"
        ) from None
    except OSError as error:
        package = module.split(".")[0]
        raise StorageError(f"{purpose} needs {package}, which cannot start: {error}") from None


def require_all(modules: Mapping[str, str], purpose: str) -> None:
    """Check, without importing them, that modules of optional dependencies are installed.

    Parameters
    ----------
    modules : maps the top-level name of each module to the extra of this package that installs it.
    purpose : what needs the modules; the subject of the error message.

    Raises
    ------
    ExtraError : a module is not installed; the message names all missing modules.
    """
    missing = {name: extra for name, extra in modules.items() if _absent(name)}
    if missing:
        raise ExtraError(
            f"{purpose} needs {' and '.join(missing)}, not installed. "
            f"{install_hint(*missing.values())}"
        )


def install_hint(*extras: str) -> str:
    """Return the sentence that says how to install extras of this package."""
    named = ",".join(dict.fromkeys(extras))
    return (
        f"Install it with: pip install 'srch-dist[{named}]', or in a clone of the repository: "
        f"pip install '.[{named}]'"
    )


def _absent(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except (ImportError, ValueError):  # ValueError: sys.modules holds None or a module without spec
        return True
