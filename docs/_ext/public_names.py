"""Fail the build if a public name has no docstring, or the reference lacks a public name."""

from __future__ import annotations

import inspect

from sphinx.application import Sphinx
from sphinx.util import logging

import srch_dist

_LOGGER = logging.getLogger(__name__)


def undocumented() -> list[str]:
    """Public names, and public methods of public classes, that have no docstring."""
    missing = []
    for name in srch_dist.__all__:
        value = getattr(srch_dist, name)
        # A dataclass without a docstring inherits its signature as one.
        own = getattr(value, "__doc__", None) or ""
        if not own or own.startswith(f"{name}("):
            missing.append(name)
        if inspect.isclass(value):
            members = inspect.getmembers(value, inspect.isfunction)
            missing += [
                f"{name}.{member}"
                for member, function in members
                if not member.startswith("_")
                and function.__module__.startswith("srch_dist")
                and not inspect.getdoc(function)
            ]
    return missing


def _check(app: Sphinx, _exception: Exception | None) -> None:
    for name in undocumented():
        _LOGGER.warning("srch_dist.%s has no docstring", name)
    objects = app.env.get_domain("py").objects  # type: ignore[attr-defined]
    for name in srch_dist.__all__:
        if f"srch_dist.{name}" not in objects:
            _LOGGER.warning("reference/python.md lacks srch_dist.%s", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Check after all pages are read."""
    app.connect("env-check-consistency", lambda app, _env: _check(app, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
