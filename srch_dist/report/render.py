"""The page: sections of charts, tables and examples in one file without addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from srch_dist.report.figures import Chart
from srch_dist.report.records import shown
from srch_dist.report.tables import Table


@dataclass(frozen=True)
class Tile:
    """A figure that is read first: what it is, its value, and a few words."""

    name: str
    value: str
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page; what it does not have is left out.

    Attributes
    ----------
    folded : tables that are opened by hand, by what they hold.
    examples : as of `gather_examples`.
    """

    key: str
    title: str
    text: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: Mapping[str, Table] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)


def render(title: str, text: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """The HTML of a page."""
    environment = Environment(
        loader=PackageLoader("srch_dist.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = shown
    page = environment.get_template("page.html")
    return page.render(title=title, text=text, tiles=tiles, sections=sections)
