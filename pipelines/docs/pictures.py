"""Save a matplotlib figure twice: for light and for dark pages."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

# Fonts for text of emoji: those of the systems, before matplotlib's own.
EMOJI = ["Apple Color Emoji", "Segoe UI Emoji", "Noto Color Emoji", "DejaVu Sans"]
FOLDER = Path(__file__).parents[2] / "docs" / "figures"


@dataclass(frozen=True)
class Scheme:
    """Colours of a page."""

    name: str
    ink: str
    muted: str
    line: str
    fill: str
    series: tuple[str, ...]


_LIGHT = ("#0b68cb", "#c2410c", "#0f7b5f", "#7c3aed")
_DARK = ("#70b8ff", "#ff9f5a", "#4cc9a0", "#b79bff")
SCHEMES = (
    Scheme("light", "#1c2024", "#60646c", "#b9bbc6", "#eef3fb", _LIGHT),
    Scheme("dark", "#edeef0", "#b0b4ba", "#5a6169", "#1d2a3d", _DARK),
)


def save(
    name: str,
    size: tuple[float, float],
    draw: Callable[[Figure, Scheme], None],
    folder: Path = FOLDER,
) -> None:
    """Write ``NAME-light.svg`` and ``NAME-dark.svg`` to ``folder``; ``size`` is in inches."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in SCHEMES:
        style = {
            "svg.fonttype": "none",
            "svg.hashsalt": "srch-dist",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": scheme.ink,
            "axes.facecolor": "none",
            "axes.edgecolor": scheme.line,
            "axes.labelcolor": scheme.muted,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(color=scheme.series),
            "xtick.color": scheme.muted,
            "ytick.color": scheme.muted,
            "legend.frameon": False,
        }
        with mpl.rc_context(style), warnings.catch_warnings():
            # The browser draws emoji with its own font; matplotlib cannot.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
            figure = Figure(figsize=size, layout="constrained")
            draw(figure, scheme)
            path = folder / f"{name}-{scheme.name}.svg"
            figure.savefig(path, transparent=True, metadata={"Date": None})
            text = path.read_text(encoding="utf-8")
        # Trailing blanks would be stripped by the hooks of the repository.
        path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", "utf-8")
