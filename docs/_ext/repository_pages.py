"""Show files of the repository as pages, and resolve links to files outside docs/.

A page in `PAGES` consists of a file elsewhere in the repository. In every page, a relative link
that leaves docs/ goes to the page of its file. If the file has no page, the text of the link stays:
the site does not hold the file. A link to a file that does not exist fails the build.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
# File of the repository by page.
PAGES = {
    "benchmarks/quality-full": "pipelines/compare/RESULTS.md",
    "benchmarks/quality-protocol": "pipelines/compare/README.md",
    "benchmarks/scale-protocol": "pipelines/scale/README.md",
    "how-to/kubernetes": "deploy/README.md",
    "how-to/ssh-and-slurm": "deploy/other-clusters/README.md",
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/security": "SECURITY.md",
}
_PAGE_OF = {path: page for page, path in PAGES.items()} | {"README.md": "index"}
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def rewrite_links(text: str, file: Path, page: str) -> tuple[str, list[str]]:
    """Return the Markdown of ``file`` with links for ``page``, and the links that lead nowhere."""
    broken: list[str] = []

    def replace(match: re.Match[str]) -> str:
        label, destination = match.groups()
        target, mark, fragment = destination.partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = (file.parent / target).resolve()
        if not path.exists():
            broken.append(destination)
            return match[0]
        name = str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else ""
        if name in _PAGE_OF:
            path = _DOCS / f"{_PAGE_OF[name]}.md"
        elif not path.is_relative_to(_DOCS) or path.suffix != ".md":
            return label
        relative = os.path.relpath(path, (_DOCS / page).parent)
        return f"[{label}]({relative}{mark}{fragment})"

    # Code is cut out first, since it may hold brackets.
    codes = _CODE.findall(text)
    linked = _LINK.sub(replace, _CODE.sub("\0", text))
    return re.sub("\0", lambda _: codes.pop(0), linked), broken


def _read(_app: Sphinx, page: str, source: list[str]) -> None:
    file = _DOCS / f"{page}.md"
    if page in PAGES:
        file = _ROOT / PAGES[page]
        source[0] = file.read_text(encoding="utf-8")
    source[0], broken = rewrite_links(source[0], file, page)
    for link in broken:
        _LOGGER.warning("%s: no file is at %s", file.relative_to(_ROOT), link, location=page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the text of pages as they are read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
