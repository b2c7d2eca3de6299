"""Draw docs/figures/query-*.svg: emoji names as queries, and the pictures that their codes find.

    python -m pipelines.docs.query RUN

RUN is the run directory of `python -m srch_dist.train` on the shipped emoji.
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure

from srch_dist import encode_rows, load_model, open_store

from .pictures import EMOJI, Scheme, save

_QUERIES = ("smiling face with open mouth", "peanuts", "bank", "rugby football")
_FOUND = 9


def results(run: str) -> list[tuple[str, list[tuple[str, bool]]]]:
    """For each query: its name, and characters found, with whether they are of its category."""
    store, model = open_store(f"{run}/emoji.zarr"), load_model(run)
    split, titles, characters, labels = (
        store.read(name) for name in ("split", "titles", "characters", "labels")
    )
    database = np.flatnonzero(split == 0)
    bits = np.unpackbits(encode_rows(model, "image", store.read("image")[database]), axis=1)
    found = []
    for name in _QUERIES:
        row = next(i for i in np.flatnonzero(split == 1) if titles[i].startswith(name))
        code = np.unpackbits(encode_rows(model, "text", store.read("text", row, row + 1)), axis=1)
        nearest = database[np.argsort((bits != code).sum(axis=1), kind="stable")[:_FOUND]]
        hits = (labels[nearest] @ labels[row] > 0).tolist()
        found.append((name, list(zip(map(str, characters[nearest]), hits, strict=True))))
    return found


def draw(found: list[tuple[str, list[tuple[str, bool]]]]) -> None:
    """Draw both versions of the picture."""

    def panel(figure: Figure, scheme: Scheme) -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set(xlim=(0, 10), ylim=(-len(found) + 0.1, 0.95))
        axes.text(0, 0.55, "query: a name", color=scheme.muted)
        axes.text(3.6, 0.55, "nearest codes of pictures (32 bits)", color=scheme.muted)
        for line, (name, characters) in enumerate(found):
            axes.text(0, -line, name, va="center", fontsize=11)
            for place, (character, hit) in enumerate(characters):
                x = 3.75 + 0.7 * place
                axes.text(x, -line, character, ha="center", va="center", fontsize=18, family=EMOJI)
                if hit:
                    axes.plot([x - 0.2, x + 0.2], [-line - 0.42] * 2, color=scheme.series[2])
        axes.text(0, -len(found) + 0.18, "green: same category", color=scheme.series[2], fontsize=9)

    save("query", (8, 2.9), panel)


if __name__ == "__main__":
    draw(results(sys.argv[1]))
