"""Plots of the scale benchmark, light and dark, in the style of all pictures of the docs.

growth, stages and cg show the runs of a runs.json, convergence the curves of a residuals.json.
"""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

from pipelines.docs.pictures import Scheme, save

from .runs import STAGES, data_name, generated, stage_shares

Record = dict[str, Any]

RUNS, RESIDUALS = "runs.json", "residuals.json"
_OWN = {"marker": "o", "ls": "-", "markersize": 4}
_REFERENCE = {"marker": "s", "ls": "--", "markersize": 4}
_SMALLEST = 0.005  # A stage below this share in every run is not visible.


def redraw(records: Path, out: Path) -> list[str]:
    """Draw the plots of the runs.json and residuals.json in the folder ``records``.

    Returns
    -------
    list of str
        Names of the plots that the files have values for.
    """
    names = []
    if (records / RUNS).exists():
        names += draw(load_runs(records), out)
    if (records / RESIDUALS).exists():
        text = (records / RESIDUALS).read_text(encoding="utf-8")
        names += draw_convergence(json.loads(text)["cold"], out)
    return names


def load_runs(folder: Path) -> list[Record]:
    """Runs of the runs.json in ``folder``, in the form of `runs.short`."""
    runs: list[Record] = json.loads((folder / RUNS).read_text(encoding="utf-8"))["runs"]
    return runs


def draw(runs: list[Record], folder: Path) -> list[str]:
    """Draw growth, stages and, if the runs have counts by outer iteration, cg.

    Parameters
    ----------
    runs : list of dict
        As `runs.short` makes them.
    folder : Path
        Gets ``NAME-light.svg`` and ``NAME-dark.svg``.

    Returns
    -------
    list of str
        Names of the plots.
    """
    plots = {"growth": (8, 3.4, _growth), "stages": (8, 3.0, _stages)}
    if any(run["srch_dist"]["cg_iterations"] for run in runs):
        plots["cg"] = (8, 3.6, _cg)
    for name, (width, height, plot) in plots.items():
        save(name, (width, height), lambda figure, scheme: plot(figure, scheme, runs), folder)  # noqa: B023
    return list(plots)


def _growth(figure: Figure, scheme: Scheme, runs: list[Record]) -> None:
    time, memory = figure.subplots(1, 2)
    runs = generated(runs) or runs
    compared = [run for run in runs if run["reference"]]
    own, other, client = scheme.series[:3]
    _curve(time, runs, ("srch_dist", "seconds"), color=own, label="srch-dist", **_OWN)
    _curve(memory, runs, ("srch_dist", "mib"), color=own, label="srch-dist, a worker", **_OWN)
    label = "srch-dist, client"
    _curve(memory, runs, ("srch_dist", "client_mib"), color=client, label=label, **_OWN)
    if compared:
        for axes, key in ((time, "seconds"), (memory, "mib")):
            style = {"color": other, "label": "reference", **_REFERENCE}
            _curve(axes, compared, ("reference", key), **style)
    rows = [run["rows"] for run in runs]
    for axes, label in ((time, "seconds"), (memory, "peak memory above idle, MiB")):
        axes.set(xlabel="pairs", ylabel=label, xscale="log", yscale="log")
        axes.set_xticks(rows, [_count(count) for count in rows])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.legend(fontsize=9)


def _curve(axes: Axes, runs: list[Record], keys: tuple[str, str], **style: Any) -> None:
    values = [run[keys[0]][keys[1]] for run in runs]
    axes.plot([run["rows"] for run in runs], values, **style)


def _count(rows: int) -> str:
    millions = rows / 1_000_000
    return f"{millions:g} million" if millions >= 1 else f"{rows:,}"


def _stages(figure: Figure, scheme: Scheme, runs: list[Record]) -> None:
    axes = figure.subplots()
    names = [data_name(run) for run in runs]
    shares = [stage_shares(run) for run in runs]
    left = [0.0] * len(runs)
    colours = cycle((scheme.line, *scheme.series, scheme.muted))
    for stage, label in STAGES.items():
        values = [share.get(stage, 0.0) for share in shares]
        if max(values) < _SMALLEST:
            continue
        axes.barh(names, values, left=left, label=label, color=next(colours), height=0.7)
        left = [start + value for start, value in zip(left, values, strict=True)]
    for name, run in zip(names, runs, strict=True):
        text = f"{run['srch_dist']['seconds']:,.0f} s"
        axes.text(1.01, name, text, va="center", color=scheme.muted, fontsize=9)
    axes.set(xlabel="share of the run", ylabel="pairs", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STAGES), fontsize=9)


def _cg(figure: Figure, scheme: Scheme, runs: list[Record]) -> None:
    axes = figure.subplots()
    colours = cycle((*scheme.series, scheme.muted))
    handles = [
        Line2D([], [], color=scheme.ink, label=label, **style)
        for label, style in (("srch-dist", _OWN), ("reference (diagonal alone)", _REFERENCE))
    ]
    for run, colour in zip(runs, colours, strict=False):
        for name, style in (("srch_dist", _OWN), ("reference", _REFERENCE)):
            counts = run[name]["cg_iterations"] if run[name] else None
            if counts:
                axes.plot(range(1, len(counts) + 1), counts, color=colour, **style)
        handles.append(Line2D([], [], color=colour, lw=3, label=data_name(run)))
    axes.set(xlabel="outer iteration", ylabel="CG iterations, slowest column", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(handles=handles, loc="outside right center", fontsize=9)


def draw_convergence(cases: list[Record], folder: Path) -> list[str]:
    """Draw the residuals over CG iterations on the first and last graph, one panel per preset.

    Parameters
    ----------
    cases : list of dict
        ``preset``, ``coarse`` ("on" or "off"), ``first`` and ``last``: residuals of the first and
        of the last Z-step, from the start on.
    folder : Path
        Gets convergence-light.svg and convergence-dark.svg.

    Returns
    -------
    list of str
        The name of the plot.
    """

    def panels(figure: Figure, scheme: Scheme) -> None:
        presets = list(dict.fromkeys(case["preset"] for case in cases))
        for axes, preset in zip(
            figure.subplots(1, len(presets), sharey=True, squeeze=False)[0], presets, strict=True
        ):
            for case in (case for case in cases if case["preset"] == preset):
                style, name = ("-", "with") if case["coarse"] == "on" else ("--", "without")
                for graph, colour in zip(("first", "last"), scheme.series, strict=False):
                    label = f"{graph} graph, {name} coarse space"
                    axes.plot(case[graph], style, color=colour, label=label)
            axes.set(title=preset, xlabel="CG iteration", xscale="symlog", yscale="log")
            axes.set_xticks((0, 1, 3, 10, 30, 100), ("0", "1", "3", "10", "30", "100"))
            axes.minorticks_off()
        first = figure.axes[0]
        first.set_ylabel("largest relative residual")
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9)

    save("convergence", (8, 3.8), panels, folder)
    return ["convergence"]
