"""Retrieval measures of runs: tables of MAP and partner recall, precision–recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from srch_dist.report.figures import MUTED, SERIES, Chart, draw, literal_label
from srch_dist.report.records import RunRecords, direction_label
from srch_dist.report.tables import Table, number

_MEASURES = ("MAP", "MAP@50", "P@10")
_LEARNED = "learned codes as database"
# Line styles of the baselines' curves.
_DASHES = ("--", ":", "-.")


def map_table(runs: Sequence[RunRecords]) -> Table:
    """Make a table of MAP, MAP@50 and P@10 by direction, for runs and their baselines."""
    scored = [run for run in runs if run.evaluation and "map" in run.evaluation]
    columns = ["direction", "codes", "bits", *_MEASURES]
    rows: list[list[str]] = []
    for direction in scored[0].directions if scored else []:
        for name, bits, scores in _systems(scored):
            if direction in scores["map"]:
                values = [number(value) for value in _values(scores, direction)]
                rows.append([direction_label(direction), name, str(bits), *values])
    return Table(columns, rows, numeric=2, best=(0, 3))


def pair_table(run: RunRecords) -> Table:
    """Make a table of recall and median rank of the true partner, by direction and ranking.

    The rankings are codes against codes, float queries against codes, and the cosine of the float
    vectors if it is defined. "kept" is the share of the 10 nearest float vectors.
    """
    evaluation = run.evaluation or {"pair_recall": {}}
    kept = evaluation.get("neighbours_kept") or {}
    rankings = (
        ("codes", evaluation["pair_recall"], kept.get("symmetric")),
        (
            "float query",
            (evaluation.get("asymmetric") or {}).get("pair_recall"),
            kept.get("asymmetric"),
        ),
        ("float vectors", evaluation.get("float_pair_recall"), None),
    )
    rows = [
        [direction_label(direction), name,
         *(number(pairs[direction][key]) for key in ("1", "5", "10")),
         f"{pairs[direction]['median_rank']:.1f}", number((shares or {}).get(direction))]
        for direction in evaluation["pair_recall"]
        for name, pairs, shares in rankings
        if pairs and direction in pairs
    ]  # fmt: skip
    columns = ["direction", "ranking", "R@1", "R@5", "R@10", "median rank", "kept"]
    return Table(columns, rows, numeric=2)


def precision_recall_chart(runs: Sequence[RunRecords], direction: str) -> Chart:
    """Chart precision over recall, one point per Hamming radius, for runs and their baselines."""
    scored = [run for run in runs if run.evaluation and "map" in run.evaluation]

    def paint(axes: Axes) -> None:
        for place, (name, bits, scores) in enumerate(_systems(scored)):
            curve = scores["precision_recall"].get(direction)
            if curve is None or name == _LEARNED:
                continue
            baseline = place - len(scored)
            axes.plot(
                *_points(curve),
                _DASHES[baseline % len(_DASHES)] if baseline >= 0 else "o-",
                color=MUTED if baseline >= 0 else SERIES[place % len(SERIES)],
                markersize=3,
                label=literal_label(f"{name}, {bits} bits"),
            )
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)

    title = f"Precision–recall: {direction_label(direction)}"
    text = "For rows within a Hamming radius, one point per radius; means over the queries."
    return draw(title, text, paint, legend=2)


def _systems(runs: Sequence[RunRecords]) -> list[tuple[str, int, Mapping[str, Any]]]:
    """List (name, bits, scores) of the runs, then of distinct baselines, then of learned codes."""
    systems: list[tuple[str, int, Mapping[str, Any]]] = []
    for run in runs:
        name = "this run" if len(runs) == 1 else run.name
        evaluation = run.evaluation or {}
        systems.append((name, evaluation["bits"], evaluation))
    for run in runs:
        baseline = (run.evaluation or {}).get("baseline")
        if baseline and not any(baseline["map"] == other["map"] for _, _, other in systems):
            systems.append((baseline["method"], baseline["bits"], baseline))
    if len(runs) == 1 and "train_codes" in (evaluation := runs[0].evaluation or {}):
        systems.append((_LEARNED, evaluation["bits"], evaluation["train_codes"]))
    return systems


def _values(scores: Mapping[str, Any], direction: str) -> list[float | None]:
    return [
        scores["map"][direction],
        scores["map_at_50"][direction],
        scores["precision_at"][direction]["10"],
    ]


def _points(curve: Mapping[str, Sequence[float | None]]) -> tuple[list[float], list[float]]:
    """Return recall and precision, as two lists, at the radii where both are known."""
    points = [
        (recall, precision)
        for recall, precision in zip(curve["recall"], curve["precision"], strict=True)
        if recall is not None and precision is not None and recall > 0
    ]
    recall, precision = np.array(points).reshape(-1, 2).T
    return recall.tolist(), precision.tolist()
