"""Sphinx configuration. Build: `python -m sphinx -W --keep-going -n -q docs docs/_build`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from srch_dist import __version__  # noqa: E402

project = "srch-dist"
author = "the srch-dist developers"
copyright = "2026, the srch-dist developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "descriptions",
    "generated",
    "mathml",
    "repository_pages",
    "public_names",
]
exclude_patterns = ["_build", "_ext"]
nitpicky = True

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
suppress_warnings = ["myst.strikethrough"]

autodoc_typehints = "none"  # the docstrings give shapes and dtypes, which annotations lack
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# Types in docstrings are written for readers ("uint8 (n, bits / 8)"); they are no references.
napoleon_preprocess_types = False
nitpick_ignore_regex = [(r"py:.*", r".*")]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "srch-dist"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


def skip_inherited(
    _app: object, _what: str, name: str, member: object, _skip: object, _options: object
) -> bool | None:
    """Skip methods that scikit-learn generates, whose docstrings refer to its own site."""
    generated = getattr(member, "__module__", "") or ""
    return True if generated.startswith("sklearn") or name.endswith("_request") else None


def setup(app: object) -> None:
    """Connect the handlers of this file."""
    app.connect("autodoc-skip-member", skip_inherited)  # type: ignore[attr-defined]
