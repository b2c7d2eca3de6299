"""Fill pages with text that the repository generates: `<!-- generated: MODULE -->`.

`MODULE.page()` returns Markdown. It is generated at every build, so that it cannot be out of date.
"""

from __future__ import annotations

import importlib
import re

from sphinx.application import Sphinx

_MARK = re.compile(r"^<!-- generated: ([\w.]+) -->$", re.M)


def fill(text: str) -> str:
    """Replace each mark by the text of its module."""
    return _MARK.sub(lambda match: importlib.import_module(match[1]).page(), text)


def _read(app: Sphinx, _page: str, source: list[str]) -> None:
    if _MARK.search(source[0]):
        app.env.note_reread()
        source[0] = fill(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill pages as they are read, before their links are resolved."""
    app.connect("source-read", _read, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
