"""The project's exceptions: every refusal is a SrchError, whose message says what to do."""

from __future__ import annotations

import importlib
from types import ModuleType


class SrchError(Exception):
    """A refusal or failure with a message for the user; commands print it and exit with 2."""


class ConfigError(SrchError):
    """An option that is unknown, of the wrong type, or out of range."""


class InputError(SrchError):
    """Data that cannot be used: the message names the array, the rows and the remedy."""


class TrainingError(SrchError):
    """Training that does not end well with its options: codes that collapse, no convergence."""


class StorageError(SrchError):
    """A store or run directory that is absent, unfinished, in use or damaged."""


class ClusterError(SrchError):
    """A Dask cluster that does not answer, or has no workers."""


class PlanError(SrchError):
    """Work that does not fit the memory it was given; the message holds both numbers."""


class ExtraError(SrchError):
    """An optional package that is not installed; the message names the extra that brings it."""


class WorkersKilledError(ClusterError):
    """A task whose workers were killed again and again, most often for lack of memory."""


class ClusterLostError(ClusterError):
    """A cluster that went away in the middle of work; nothing is wrong with the work itself."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module that comes with an extra of this package.

    Raises
    ------
    ExtraError : it is not installed; the message says what it is for and how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ExtraError(
            f"{purpose} needs {package}, which cannot be imported ({error}); install it with: "
            f"pip install 'srch-dist[{extra}]'"
        ) from None
