"""Render one HTML page with Jinja: key results, then sections of charts, tables and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from srch_dist.cli.safe_text import visible
from srch_dist.report.figures import Chart
from srch_dist.report.records import direction_label
from srch_dist.report.tables import Table


@dataclass(frozen=True)
class Tile:
    """A key result at the top of the page: its name, its value and a short note."""

    name: str
    value: str
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page; empty fields are not shown.

    Attributes
    ----------
    key : HTML id of the section, the target of its link.
    folded : collapsed tables, by heading.
    examples : example queries by direction; see `gather_examples`.
    """

    key: str
    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: Mapping[str, Table] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)


def render(title: str, text: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Render the HTML of a page; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("srch_dist.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_visible,
    )
    environment.filters["direction_label"] = direction_label
    page = environment.get_template("page.html")
    return page.render(title=title, text=text, tiles=tiles, sections=sections)


def _visible(value: Any) -> Any:
    """Escape control characters in text from the data; charts are returned unchanged."""
    return visible(value) if type(value) is str else value
