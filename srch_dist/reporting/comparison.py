"""A page that compares runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from srch_dist.reporting import cost_charts, retrieval
from srch_dist.reporting.figures import SERIES, Chart, draw, plain
from srch_dist.reporting.records import RunRecords, shown
from srch_dist.reporting.render import Section, Tile, render
from srch_dist.reporting.tables import Table, duration, flat, number, size
from srch_dist.reporting.training_charts import column, iterations_axis

# Where a run lies says nothing about what it is.
_PLACES = ("data", "out", "resume", "scheduler")
_DASHES = ("-", "--", ":", "-.")


def comparison_page(runs: Sequence[RunRecords]) -> str:
    """The HTML of a page about several runs."""
    scored = [run for run in runs if run.evaluation and "map" in run.evaluation]
    sections = [
        Section("runs", "Runs", tables=[_overview(runs)]),
        Section("differences", "Options that differ", tables=[differing(runs)]),
    ]
    if scored:
        charts = [retrieval.precision_recall_chart(scored, d) for d in scored[0].directions]
        tables = [retrieval.map_table(scored)]
        text = "Compare runs on the same queries only; the overview says how many there were."
        sections.append(Section("retrieval", "Retrieval", text, charts, tables))
    sections.append(
        Section("training", "Training", "Iteration by iteration.", _training_charts(runs))
    )
    sections.append(Section("cost", "Time", charts=[cost_charts.stage_time_chart(runs)]))
    names = ", ".join(run.name for run in runs)
    return render(f"{len(runs)} runs compared", names, _tiles(scored), sections)


def differing(runs: Sequence[RunRecords]) -> Table:
    """Options that are not the same in all runs."""
    known = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for options in known for name in options)
    rows = [
        [name, *(options.get(name, "–") for options in known)]
        for name in names
        if name not in _PLACES and len({options.get(name) for options in known}) > 1
    ]
    return Table(["option", *(run.name for run in runs)], rows)


def _tiles(scored: Sequence[RunRecords]) -> list[Tile]:
    tiles = []
    for direction in scored[0].directions if scored else []:
        values = {run.name: run.evaluation["map"].get(direction) for run in scored}  # type: ignore[index]
        best = max(values, key=lambda name: values[name] or 0.0)
        tiles.append(Tile(f"Best MAP {shown(direction)}", number(values[best]), best))
    return tiles


def _overview(runs: Sequence[RunRecords]) -> Table:
    directions = list(dict.fromkeys(d for run in runs for d in run.directions))
    columns = ["run", "bits", "k", "rows", "queries", "iterations",
               *(f"MAP {shown(d)}" for d in directions), "time", "peak memory"]  # fmt: skip
    rows = []
    for run in runs:
        evaluation = run.evaluation or {}
        rows.append(
            [
                run.name,
                str(run.config["bits"]),
                str(run.config["graph"]["k"]),
                f"{run.summary['rows']:,}",
                f"{evaluation.get('queries', 0):,}",
                str(run.summary["iterations"]),
                *(number(evaluation.get("map", {}).get(d)) for d in directions),
                duration(sum(run.summary["seconds"].values())),
                size(max(run.summary["peak_memory"].values())),
            ]
        )
    return Table(columns, rows)


def _training_charts(runs: Sequence[RunRecords]) -> list[Chart]:
    def lines(axes: Axes, *keys: str) -> None:
        for number_, run in enumerate(runs):
            places, values = column(run, *keys)
            axes.plot(
                places,
                [value if value > 0 else np.nan for value in values],
                _DASHES[number_ // len(SERIES) % len(_DASHES)],
                color=SERIES[number_ % len(SERIES)],
                label=plain(run.name),
            )
        iterations_axis(axes)

    def on_logarithmic(*keys: str, percent: bool = False) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            lines(axes, *keys)
            axes.set_yscale("log")
            if percent:
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))

        return paint

    def final_weights(axes: Axes) -> None:
        for number_, run in enumerate(runs):
            counts = np.array(run.history[-1].get("s_counts", [0]), dtype=np.float64)
            edges = np.linspace(0, 1, len(counts) + 1)
            colour = SERIES[number_ % len(SERIES)]
            axes.stairs(
                counts / max(1, counts.sum()), edges, color=colour, label=plain(run.name), linewidth=1.6
            )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("S of an edge")

    def drawn(title: str, text: str, paint: Callable[[Axes], None]) -> Chart:
        return draw(title, text, paint, legend=2, height=3.0 + 0.1 * len(runs))

    return [
        drawn("Objective", "Eq. 9; other weights make it another function.",
              on_logarithmic("objective")),
        drawn("Changed bits", "Share of bits that an iteration changed.",
              on_logarithmic("changed_bits", percent=True)),
        drawn("Effort of the Z-step", "Updates of conjugate gradients.",
              lambda axes: lines(axes, "cg_iterations")),
        drawn("The rebase", "Share of edges by S at the end.", final_weights),
    ]  # fmt: skip
