"""Exceptions of the package: each refusal is a `SrchError` whose message names the remedy."""

from __future__ import annotations

import importlib
from types import ModuleType


class SrchError(Exception):
    """A refusal or failure with a message for the user. Commands print it and exit with 2."""


class ConfigError(SrchError):
    """An option is unknown, has the wrong type or is out of range."""


class InputError(SrchError):
    """Data cannot be used. The message names the array, the rows and the remedy."""


class TrainingError(SrchError):
    """Training fails with these options: the codes collapse, or a solve does not converge."""


class StorageError(SrchError):
    """A store or run directory is missing, unfinished, in use or damaged."""


class ClusterError(SrchError):
    """A Dask cluster does not answer, has no workers, or has workers that cannot do the work."""


class PlanError(SrchError):
    """The planned work does not fit in memory or on disk. The message holds both numbers."""


class ExtraError(SrchError):
    """An optional package is not installed. The message names the extra that installs it."""


class WorkersKilledError(ClusterError):
    """A task repeatedly lost its worker, most often because memory ran out."""


class ClusterLostError(ClusterError):
    """The cluster went away during the work. The work itself is sound and can resume."""


# The public name, so that pickles survive moves of modules.
SrchError.__module__ = "srch_dist"


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Parameters
    ----------
    module : dotted name, such as ``matplotlib.figure``.
    extra : the extra of this package that installs it.
    purpose : what needs it, as the subject of the error message.

    Raises
    ------
    ExtraError : the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ExtraError(
            f"{purpose} needs {package}, which cannot be imported ({error}). Install it with: "
            f"pip install 'srch-dist[{extra}]'"
        ) from None
