"""Charts of the cost of a run: degrees of the graph, seconds and peak memory by stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from srch_dist.report.figures import BAD, SERIES, Chart, draw, literal_label
from srch_dist.report.records import RunRecords
from srch_dist.report.training_charts import column, iterations_axis

_MIB = 2**20
_STEPS = {"w": "W-step", "z": "Z-step", "s": "S-step", "b": "B-step"}


def degree_chart(run: RunRecords) -> Chart:
    """Chart the distribution of degrees (edges per row), one line per modality."""
    degrees = {g: report["degrees"] for g, report in run.summary["graph"]["modalities"].items()}
    top = max(int(np.flatnonzero(counts).max(initial=0)) for counts in degrees.values())
    last = len(next(iter(degrees.values()))) - 1

    def paint(axes: Axes) -> None:
        edges = np.arange(top + 2) - 0.5
        for colour, (g, counts) in zip(SERIES, degrees.items(), strict=False):
            axes.stairs(counts[: top + 1], edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(
                counts[: top + 1], edges, color=colour, label=literal_label(g), linewidth=1.6
            )
        axes.set_xlabel(f"degree (last bin: {last} or more)" if top == last else "degree")
        axes.set_ylabel("rows")

    text = f"Rows by number of edges; k = {run.config['graph']['k']}."
    return draw("Degree distribution", text, paint, legend=4)


def stage_time_chart(runs: Sequence[RunRecords]) -> Chart:
    """Chart the wall-clock seconds of each stage, one bar per run."""
    stages = _stages(runs)

    def paint(axes: Axes) -> None:
        _bars(axes, stages, [run.summary["seconds"] for run in runs], [r.name for r in runs], "s")

    total = ", ".join(f"{sum(run.summary['seconds'].values()):.1f} s" for run in runs)
    text = f"Wall-clock seconds; total {total}."
    return draw("Time by stage", text, paint, legend=len(runs) > 1, height=_height(stages, runs))


def stage_memory_chart(run: RunRecords) -> Chart:
    """Chart the peak memory (MiB) by stage, of the client and of the largest worker."""
    stages = _stages([run])
    peaks = run.summary["stage_peaks"]
    processes = sorted({name for stage in peaks.values() for name in stage}, reverse=True)
    limit = run.plan["memory_limit"] / _MIB
    values = [
        {stage: peaks[stage].get(process, 0) / _MIB for stage in stages} for process in processes
    ]
    is_limit_near = max(max(peak.values()) for peak in values) > limit / 4

    def paint(axes: Axes) -> None:
        _bars(axes, stages, values, processes, "MiB")
        if is_limit_near:
            axes.axvline(limit, color=BAD, linestyle="--", linewidth=1, label="memory limit")

    text = f"Peak resident memory; the memory limit of a worker is {limit:,.0f} MiB."
    height = _height(stages, processes)
    return draw("Peak memory by stage", text, paint, legend=3, height=height)


def step_time_chart(run: RunRecords) -> Chart:
    """Chart the seconds of the W-, Z-, S- and B-step by iteration."""

    def paint(axes: Axes) -> None:
        bottom = np.zeros(len(run.history))
        for colour, (step, label) in zip(SERIES, _STEPS.items(), strict=False):
            places, values = column(run, "seconds", step)
            axes.bar(places, values, 0.8, bottom=bottom, color=colour, label=label)
            bottom = bottom + np.array(values)
        axes.set_ylabel("seconds")
        iterations_axis(axes)

    text = "Wall-clock seconds by iteration."
    return draw("Time by step", text, paint, legend=4, height=_height(_stages([run]), ()))


def _stages(runs: Sequence[RunRecords]) -> list[str]:
    return list(dict.fromkeys(stage for run in runs for stage in run.summary["seconds"]))


def _height(stages: Sequence[str], groups: Sequence[object]) -> float:
    """Compute the height of a bar chart in inches.

    ``groups`` has one entry per bar of a stage. A stage with one bar gets the space of two bars.
    """
    return 1.3 + 0.2 * len(stages) * (max(2, len(groups)) + 0.5)


def _bars(
    axes: Axes,
    stages: Sequence[str],
    values: Sequence[dict[str, float]],
    names: Sequence[str],
    unit: str,
) -> None:
    """Draw for each stage a group of horizontal bars, one per name in ``names``.

    ``values`` has, for each name, a mapping from stage to value; a missing stage has value 0. Each
    bar is labelled with its value in ``unit``, "MiB" or "s".
    """
    thickness = 0.8 / len(values)
    digits = "{:,.0f} " if unit == "MiB" else "{:.2f} "
    for number, (group, name) in enumerate(zip(values, names, strict=True)):
        places = np.arange(len(stages)) + number * thickness - 0.4 + thickness / 2
        widths = [group.get(stage, 0) for stage in stages]
        colour = SERIES[number % len(SERIES)]
        bars = axes.barh(places, widths, thickness * 0.9, color=colour, label=literal_label(name))
        axes.bar_label(bars, fmt=digits + unit, padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(stages)), stages)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.22)
    axes.set_xlabel("seconds" if unit == "s" else unit)
