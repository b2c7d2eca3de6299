"""Draw charts as inline SVG; their colours follow the page's light or dark style."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholder colours that the SVG's text replaces by variables of the page's style sheet.
INK, MUTED, LINE, GROUND = "#010203", "#010204", "#010205", "#010206"
SERIES = tuple(f"#0102{number:02x}" for number in range(0x11, 0x19))
BAD = "#010222"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    GROUND: "--card",
    BAD: "--bad",
    **{colour: f"--c{number}" for number, colour in enumerate(SERIES, start=1)},
}
# Inches. The width of a phone, so that text is not scaled down on a phone.
_WIDTH, _HEIGHT = 4.3, 2.9
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "srch-dist",
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.1,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "axes.prop_cycle": cycler(color=SERIES),
}


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes
    ----------
    title : heading.
    text : one or two sentences that describe the chart.
    svg : the drawing, an ``svg`` element.
    figure : the drawing in placeholder colours.
    """

    title: str
    text: str
    svg: str
    figure: Figure = field(repr=False, compare=False)


def draw(
    title: str,
    text: str,
    paint: Callable[[Axes], None],
    *,
    legend: int = 0,
    height: float = _HEIGHT,
) -> Chart:
    """Draw a chart with one pair of axes.

    Parameters
    ----------
    title, text : see `Chart`.
    paint : function that draws on the axes.
    legend : number of columns of the legend above the axes; no legend if 0.
    height : height in inches.
    """
    with style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        # Matplotlib's font may lack letters of a name, but the page uses the reader's font.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        handles, labels = axes.get_legend_handles_labels()
        if legend and handles:
            figure.legend(handles, labels, loc="outside upper left", ncols=legend)
        return Chart(title, text, _svg(figure, title), figure)


def literal_label(name: str) -> str:
    """Escape a name: matplotlib reads $…$ as a formula and hides labels that begin with _."""
    label = name.replace("$", r"\$")
    return f"\u200b{label}" if label.startswith("_") else label


def _svg(figure: Figure, title: str) -> str:
    """Convert a figure to an ``svg`` element without URLs, in the page's colours and font."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    # Removed, because matplotlib repeats these ids in every chart, and a page needs unique ids.
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = text.replace("xlink:href", "href")
    # The page's font replaces matplotlib's wider font, so the text still fits the layout.
    text = re.sub(r"font: ((?:\w+ )*[\d.]+px) [^;\"]+", r"font: \1 var(--type)", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    width, height = (float(size) for size in re.findall(r'="([\d.]+)pt"', text)[:2])
    opening_tag = (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width:g} {height:g}" '
        'preserveAspectRatio="xMidYMid meet">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening_tag, text, count=1)
