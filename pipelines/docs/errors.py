"""Print the list of errors A to Z for docs/how-to/errors.md, from the places that raise them.

    python -m pipelines.docs.errors

Every message says what to do. A value that the program fills in is shown as ….
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import srch_dist
from srch_dist import errors

_PACKAGE = Path(srch_dist.__file__).parent
# Errors that a command reports with exit code 2, or 75 for a lost cluster.
_PUBLIC = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.SrchError)
}


def messages() -> list[str]:
    """Messages of all errors of the package, ordered by their first word."""
    found = {
        text
        for path in sorted(_PACKAGE.rglob("*.py"))
        for text in _messages(ast.parse(path.read_text(encoding="utf-8")))
    }
    return sorted(found, key=_key)


def page() -> str:
    """The list as Markdown, with one section per letter."""
    sections = []
    for letter, group in groupby(messages(), lambda text: _key(text)[0][:1]):
        lines = "\n".join(f"- {_shown(text)}" for text in group)
        sections.append(f"## {letter.upper()}\n\n{lines}\n")
    return "\n".join(sections)


def _messages(tree: ast.Module) -> Iterator[str]:
    private = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in _PUBLIC for base in node.bases)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _PUBLIC | private
            and node.args
        ):
            text = re.sub(r"…(\W*…)+", "…", _text(node.args[0])).strip()
            if re.search(r"\w{3}", text):
                yield text


def _text(node: ast.expr) -> str:
    """The text of a string expression, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def _key(text: str) -> tuple[str, str]:
    word = re.search(r"[A-Za-z]\w*", text)
    return (text[word.start() :].lower() if word else "", text)


def _shown(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]$|])", r"\\\1", text)


if __name__ == "__main__":
    print(page())
