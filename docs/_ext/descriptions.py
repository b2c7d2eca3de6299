"""Show `name : description` of a docstring as a description, where napoleon expects a type.

The docstrings of the package give shape and dtype in the description, in the line of the name.
Their section Returns is prose.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_NAMED = ("Parameters", "Attributes", "Raises")
_ENTRY = re.compile(r"^(\w[\w, ]*) : (.+)$")


def split_entries(lines: list[str]) -> list[str]:
    """Put the description of each entry below its name."""
    found, section = [], ""
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if following.startswith("---"):
            section = line
        entry = _ENTRY.match(line) if section in _NAMED else None
        if entry is None:
            found.append(line)
            continue
        # A name such as ``model_`` would be a link in reStructuredText.
        name = re.sub(r"_\b", r"\\_", entry[1]) if section == "Attributes" else entry[1]
        found += [name, f"    {entry[2]}"]
    return found


def take_returns(lines: list[str]) -> tuple[list[str], str]:
    """Remove the section Returns; return the other lines, and its text."""
    titles = [number for number in range(len(lines) - 1) if lines[number + 1].startswith("---")]
    for start, end in zip(titles, [*titles[1:], len(lines)], strict=False):
        if lines[start] == "Returns":
            text = " ".join(line.strip() for line in lines[start + 2 : end]).strip()
            return lines[:start] + lines[end:], text
    return lines, ""


_RETURNS: dict[str, str] = {}


def _before(_app: Sphinx, _what: str, name: str, *rest: Any) -> None:
    lines: list[str] = rest[-1]
    lines[:], _RETURNS[name] = take_returns(split_entries(lines))


def _after(_app: Sphinx, _what: str, name: str, *rest: Any) -> None:
    lines: list[str] = rest[-1]
    if text := _RETURNS.pop(name, ""):
        raised = (number for number, line in enumerate(lines) if line.startswith(":raises"))
        place = next(raised, len(lines))
        lines[place:place] = ["", f":returns: {text}"]


def setup(app: Sphinx) -> dict[str, bool]:
    """Convert docstrings before napoleon reads them, and complete them after it."""
    app.connect("autodoc-process-docstring", _before, priority=100)
    app.connect("autodoc-process-docstring", _after, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
