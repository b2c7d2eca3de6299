"""Optional packages: imported where they are used, with the extra named where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from srch_dist.errors import ExtraError


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
