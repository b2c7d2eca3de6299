"""Draw docs/figures/rebase-*.svg: edges of the emoji graph before and after the rebase.

    python -m pipelines.docs.rebase

Trains on the shipped emoji (32 bits, 2 workers), which takes about 30 s on 2 cores.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srch_dist import build_config, train_model
from srch_dist.kernels.types import Array
from srch_dist.storage.run.directory import RunDirectory

from .pictures import EMOJI, Scheme, save

_SHOWN = 22  # neighbours
_LEAST = 4  # of them, of the row's category and of others


@dataclass(frozen=True)
class Graph:
    """S and category of all edges, and the edges of one row, strongest after the rebase first."""

    centre: str
    characters: list[str]
    related: list[bool]
    s: Array
    all_s: Array
    all_related: Array


def learn(folder: Path) -> Graph:
    """Train, and read the edges and the codes' embedding of the last iteration."""
    trained = train_model(
        build_config({"out": str(folder / "run"), "keep_work": True, "report": False, "workers": 2})
    )
    run = RunDirectory(folder / "run")
    last = json.loads((folder / "run" / "history.jsonl").read_text().splitlines()[-1])
    z = zarr.open_array(str(run.checkpoint(last["iteration"], "z")), mode="r")[:].astype(float)
    starts, ends = (_edges(run, kind) for kind in ("indptr", "indices"))
    sources = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    lam = trained.run.config().method.lam
    s = last["alpha"] / (last["alpha"] + lam * ((z[sources] - z[ends]) ** 2).sum(axis=1))
    rows = zarr.open_array(str(run.rows), mode="r")[:]
    characters, labels = (trained.store.read(name)[rows] for name in ("characters", "labels"))
    related = (labels[sources] * labels[ends]).sum(axis=1) > 0
    centre = _clearest_row(sources, s, related)
    own = np.flatnonzero(sources == centre)
    own = own[np.argsort(-s[own], kind="stable")][:_SHOWN]
    names = [str(name) for name in characters[ends[own]]]
    return Graph(str(characters[centre]), names, related[own].tolist(), s[own], s, related)


def _clearest_row(sources: Array, s: Array, related: Array) -> int:
    """The row whose edges the rebase separates best by category, for a clear picture."""
    rows = sources.max() + 1
    sums = [
        (np.bincount(sources[kind], minlength=rows), np.bincount(sources[kind], s[kind], rows))
        for kind in (related, ~related)
    ]
    (inside, inside_s), (outside, outside_s) = sums
    means = inside_s / np.maximum(inside, 1) - outside_s / np.maximum(outside, 1)
    fits = (inside >= _LEAST) & (outside >= _LEAST) & (inside + outside <= _SHOWN)
    return int(np.argmax(np.where(fits, means, -1)))


def _edges(run: RunDirectory, kind: str) -> Array:
    return zarr.open_array(str(run.edges(0, kind)), mode="r")[:]


def _star(axes: Axes, graph: Graph, strengths: Array, scheme: Scheme) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
    turns = np.linspace(0, 2 * np.pi, len(graph.characters), endpoint=False) + np.pi / 2
    for turn, name, related, strength in zip(
        turns, graph.characters, graph.related, strengths, strict=True
    ):
        x, y = np.cos(turn), np.sin(turn)
        colour = scheme.series[0 if related else 1]
        axes.plot([0.2 * x, 0.84 * x], [0.2 * y, 0.84 * y], color=colour, lw=0.3 + 4 * strength**2)
        axes.text(x, y, name, ha="center", va="center", fontsize=15, family=EMOJI)
    axes.text(0, 0, graph.centre, ha="center", va="center", fontsize=22, family=EMOJI)


def draw(graph: Graph) -> None:
    """Draw both versions of the picture."""
    kinds = (("same category", graph.all_related), ("another category", ~graph.all_related))

    def panels(figure: Figure, scheme: Scheme) -> None:
        before, after, histogram = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
        _star(before, graph, np.ones_like(graph.s), scheme)
        before.set_title("set: every edge counts (S = 1)", fontsize=10)
        _star(after, graph, graph.s, scheme)
        after.set_title("rebased: width is S²", fontsize=10)
        values = [graph.all_s[kind] for _, kind in kinds]
        shares = [
            f"{name}: S > ½ for {(graph.all_s[kind] > 0.5).mean():.0%}" for name, kind in kinds
        ]
        histogram.hist(values, np.linspace(0, 1, 11), label=shares, color=scheme.series[:2])
        histogram.legend(loc="upper center", fontsize=9)
        histogram.set(xlabel="S", yticks=[])
        histogram.set_ylim(0, histogram.get_ylim()[1] * 1.25)
        histogram.set_title("all edges, after training", fontsize=10)
        histogram.spines["left"].set_visible(False)

    save("rebase", (10, 3.5), panels)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        draw(learn(Path(place)))
