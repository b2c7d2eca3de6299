"""HTML page that compares several runs: scores, differing options, training and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from srch_dist.plan.table import duration
from srch_dist.report import cost_charts, retrieval_charts
from srch_dist.report.figures import SERIES, Chart, draw, literal_label
from srch_dist.report.records import RunRecords, direction_label
from srch_dist.report.render import Section, Tile, render
from srch_dist.report.tables import Table, flatten, number, size
from srch_dist.report.training_charts import column, iterations_axis, weight_shares

# Options of locations, which the table of differing options leaves out.
_PLACES = ("data", "out", "work", "resume", "scheduler")
_DASHES = ("-", "--", ":", "-.")


def comparison_page(runs: Sequence[RunRecords]) -> str:
    """Build the HTML page that compares several runs."""
    names = ", ".join(run.name for run in runs)
    title = f"Comparison of {len(runs)} runs"
    return render(title, names, _tiles(_scored(runs)), comparison_sections(runs))


def comparison_sections(runs: Sequence[RunRecords]) -> list[Section]:
    """Build the sections of the page that compares several runs."""
    scored = _scored(runs)
    sections = [
        Section("runs", "Runs", tables=[_overview(runs)]),
        _differences(runs),
    ]
    if scored:
        charts = [retrieval_charts.precision_recall_chart(scored, d) for d in scored[0].directions]
        tables = [retrieval_charts.map_table(scored)]
        text = "Scores are comparable only on the same queries; the first table counts the queries."
        sections.append(Section("retrieval", "Retrieval", text, charts, tables))
    sections.append(Section("training", "Training", "One line per run.", _training_charts(runs)))
    sections.append(Section("cost", "Time", charts=[cost_charts.stage_time_chart(runs)]))
    return sections


def _scored(runs: Sequence[RunRecords]) -> list[RunRecords]:
    return [run for run in runs if run.evaluation and "map" in run.evaluation]


def _differences(runs: Sequence[RunRecords]) -> Section:
    configs = [flatten(run.config) for run in runs]
    names = dict.fromkeys(name for options in configs for name in options)
    rows = [
        [name, *(options.get(name, "–") for options in configs)]
        for name in names
        if name not in _PLACES and len({options.get(name) for options in configs}) > 1
    ]
    title = "Options that differ"
    if not rows:
        return Section("differences", title, "None; paths and addresses are not compared.")
    return Section(
        "differences", title, tables=[Table(["option", *(run.name for run in runs)], rows)]
    )


def _tiles(scored: Sequence[RunRecords]) -> list[Tile]:
    tiles = []
    for direction in scored[0].directions if scored else []:
        scores = [((run.evaluation or {})["map"].get(direction), run.name) for run in scored]
        value, name = max(scores, key=lambda score: score[0] or 0.0)
        tiles.append(Tile(f"Best MAP {direction_label(direction)}", number(value), name))
    return tiles


def _overview(runs: Sequence[RunRecords]) -> Table:
    directions = list(dict.fromkeys(d for run in runs for d in run.directions))
    scores = [f"MAP {direction_label(direction)}" for direction in directions]
    columns = ["run", "bits", "k", "rows", "queries", "iterations", *scores, "time", "peak memory"]
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
    def chart(title: str, text: str, paint: Callable[[Axes], None]) -> Chart:
        return draw(title, text, paint, legend=2, height=3.0 + 0.1 * len(runs))

    def objective(axes: Axes) -> None:
        _lines(axes, runs, "objective")
        axes.set_yscale("log")

    def changed_bits(axes: Axes) -> None:
        _lines(axes, runs, "changed_bits")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))

    def cg_iterations(axes: Axes) -> None:
        _lines(axes, runs, "cg_iterations")

    def edge_weights(axes: Axes) -> None:
        _final_weights(axes, runs)

    return [
        chart("Objective", "Eq. 9; comparable only if the terms have equal weights.", objective),
        chart("Changed bits", "Share of bits changed by an iteration.", changed_bits),
        chart("CG iterations", "CG iterations of the Z-step.", cg_iterations),
        chart("Edge weights S", "Share of edges by S after the last iteration.", edge_weights),
    ]


def _lines(axes: Axes, runs: Sequence[RunRecords], key: str) -> None:
    """Plot the positive values of ``key`` in the histories by iteration, one line per run."""
    for place, run in enumerate(runs):
        iterations, values = column(run, key)
        axes.plot(
            iterations,
            [value if value > 0 else np.nan for value in values],
            _DASHES[place // len(SERIES) % len(_DASHES)],
            color=SERIES[place % len(SERIES)],
            label=literal_label(run.name),
        )
    iterations_axis(axes)


def _final_weights(axes: Axes, runs: Sequence[RunRecords]) -> None:
    for place, run in enumerate(runs):
        last = run.history[-1]
        if "s_counts" in last:
            shares = weight_shares(last)
            edges = np.linspace(0, 1, len(shares) + 1)
            colour = SERIES[place % len(SERIES)]
            axes.stairs(shares, edges, color=colour, label=literal_label(run.name), linewidth=1.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("edge weight S")
