"""Render equations as MathML, which browsers show without scripts and without a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)


def _render(node: nodes.Element, text: str, block: bool) -> str:
    try:
        return tex2mathml(text, as_block=block)
    except MathError as error:
        _LOGGER.warning("equation %s: %s", text, error, location=node)
        return ""


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_render(node, node.astext(), block=False))
    raise nodes.SkipNode


def _display(translator: Any, node: nodes.math_block) -> None:
    # docutils aligns lines that two backslashes separate, as in the environment align*.
    translator.body.append(_render(node, node.astext(), block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
