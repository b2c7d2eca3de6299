"""Versions of the packages that can change the codes of a run."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

_PACKAGES = ("srch-dist", "numpy", "scipy", "dask", "zarr", "pynndescent")


def current_versions() -> dict[str, str]:
    """Return the versions of Python and of each package, by name."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def changed_versions(recorded: Mapping[str, str]) -> list[str]:
    """List packages whose version differs from ``recorded``: "numpy 2.1.0 (now 2.2.0)".

    Python itself and packages without a recorded version are not compared.
    """
    return [
        f"{name} {recorded[name]} (now {version})"
        for name, version in current_versions().items()
        if name in _PACKAGES and recorded.get(name, version) != version
    ]
