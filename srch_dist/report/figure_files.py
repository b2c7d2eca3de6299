"""Write the charts and tables of a report as files: PDF and PNG, CSV, Markdown and LaTeX."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure

from srch_dist.report.comparison import comparison_sections
from srch_dist.report.figures import VARIABLES
from srch_dist.report.page import run_sections
from srch_dist.report.records import RunRecords
from srch_dist.report.render import Section
from srch_dist.report.table_files import ENDINGS, table_text
from srch_dist.storage.atomic_files import write_bytes, write_text

_STYLE_SHEET = Path(__file__).parent / "templates" / "page.css"
# Colour properties of artists; an artist has some of them.
_PROPERTIES = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
_DPI = 200


def write_figures(records: Sequence[RunRecords], folder: Path) -> list[Path]:
    """Write every chart and table of the report to a folder; files of the same name are replaced.

    Returns the paths of the files, such as ``training-objective.pdf``.
    """
    sections = run_sections(records[0]) if len(records) == 1 else comparison_sections(records)
    written: list[Path] = []
    for section in sections:
        written += _write_section(section, folder)
    return written


def _write_section(section: Section, folder: Path) -> list[Path]:
    written = []
    for chart in section.charts:
        _recolour(chart.figure)
        for ending in (".pdf", ".png"):
            path = folder / f"{section.key}-{_slug(chart.title)}{ending}"
            write_bytes(path, _rendered(chart.figure, ending))
            written.append(path)
    tables = {str(number): table for number, table in enumerate(section.tables, start=1)}
    tables |= {_slug(title): table for title, table in section.folded.items()}
    for name, table in tables.items():
        for ending in ENDINGS:
            path = folder / f"{section.key}-table-{name}{ending}"
            write_text(path, table_text(table.columns, table.rows, ending))
            written.append(path)
    return written


def _rendered(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    # Without dates, so that the same run gives the same bytes. Type 42 fonts stay text in a PDF.
    no_dates: dict[str, Any] = {"CreationDate": None} if ending == ".pdf" else {"Software": None}
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(buffer, format=ending[1:], dpi=_DPI, facecolor="white", metadata=no_dates)
    return buffer.getvalue()


def _recolour(figure: Figure) -> None:
    """Replace the placeholder colours of all artists."""
    for artist in figure.findobj():
        for name in _PROPERTIES:
            get: Callable[[], Any] | None = getattr(artist, f"get_{name}", None)
            put: Callable[[Any], Any] | None = getattr(artist, f"set_{name}", None)
            if get is not None and put is not None:
                _replace(get(), put)
        if isinstance(artist, ScalarMappable) and artist.get_array() is not None:
            colours = artist.get_cmap()(np.linspace(0, 1, 256))
            artist.set_cmap(ListedColormap([_light(colour) for colour in colours]))


def _replace(value: Any, put: Callable[[Any], Any]) -> None:
    if isinstance(value, np.ndarray) and value.ndim == 2:
        if len(value):
            put([_light(colour) for colour in value])
        return
    try:
        colour = to_rgba(value)
    except (ValueError, TypeError):  # "auto", "none" for a list of lines, …
        return
    if _bytes(colour) in _colours():
        put(_light(colour))


@cache
def _colours() -> dict[tuple[int, ...], tuple[float, ...]]:
    """Return the colours of the page's light style, by the placeholder that charts are drawn in."""
    text = _STYLE_SHEET.read_text(encoding="utf-8")
    values: dict[str, str] = {}
    for name, value in re.findall(r"(--[a-z0-9]+): (#[0-9a-f]{6})", text):
        values.setdefault(name, value)  # the light style comes first
    return {_bytes(to_rgba(old)): to_rgba(values[name])[:3] for old, name in VARIABLES.items()}


def _bytes(colour: Sequence[float]) -> tuple[int, ...]:
    """Return red, green and blue of a colour as integers 0 … 255."""
    return tuple(round(255 * float(part)) for part in colour[:3])


def _light(colour: Sequence[float]) -> tuple[float, ...]:
    found = _colours().get(_bytes(colour))
    return tuple(colour) if found is None else (*found, float(colour[3]))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
