"""Draw docs/figures/bytes-*.svg: MAP against bytes per row, from docs/benchmarks/quality.md.

python -m pipelines.docs.quality
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from .pictures import Scheme, save

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "quality.md"
_METHODS = ("SRCH", "ACQ", "CCA-ITQ", "CVH")
_REFERENCE = "float CCA ‡"


def scores() -> dict[str, dict[int, dict[str, float]]]:
    """MAP of the first table, by data set, bits and method."""
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    lines = _PAGE.read_text(encoding="utf-8").split("| set | bits |")[1].splitlines()
    header = [cell.strip() for cell in lines[0].strip("| ").split("|")]
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        name, bits, *cells = (cell.strip(" *") for cell in line.strip("| ").split("|"))
        found[name][int(bits)] = dict(zip(header, map(float, cells), strict=True))
    return found


def _draw(figure: Figure, scheme: Scheme) -> None:
    sets = scores()
    for axes, (name, rows) in zip(figure.subplots(1, len(sets)), sets.items(), strict=True):
        sizes = [bits // 8 for bits in rows]
        for method in _METHODS:
            values = [row[method] for row in rows.values()]
            axes.plot(sizes, values, "o-", markersize=3.5, label=method)
        reference = next(iter(rows.values()))[_REFERENCE]
        axes.axhline(reference, color=scheme.muted, lw=1, ls="--", label="float CCA")
        axes.set_xscale("log", base=2)
        axes.set(title=name, xticks=sizes, xticklabels=sizes, ylim=(0, None))
        axes.minorticks_off()
        axes.tick_params(labelsize=9)
    first = figure.axes[0]
    first.set_ylabel("MAP")
    figure.supxlabel("bytes per row", fontsize=10, color=scheme.muted)
    figure.legend(*first.get_legend_handles_labels(), loc="outside upper center", ncols=5)


if __name__ == "__main__":
    save("bytes", (10, 2.9), _draw)
