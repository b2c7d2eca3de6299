"""Results of a sweep with one row per run, as terminal table, JSON, CSV and plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from rich import box
from rich.table import Table

from srch_dist.errors import ExtraError, require
from srch_dist.report.table_files import ENDINGS, table_text
from srch_dist.runtime.progress import Progress
from srch_dist.storage.atomic_files import (
    CRC,
    check_manifest,
    read_json,
    replacing,
    write_json,
    write_text,
)
from srch_dist.storage.checked_json import check_shape
from srch_dist.storage.outputs import OutputKind, json_kind
from srch_dist.storage.run.shapes import Evaluation, IterationRecord, Summary

# Columns of a row: values of the grid's options, then scores and measures. A missing value is None.
Row = dict[str, Any]

_SCORES = {
    "map": "MAP",
    "map_at_50": "MAP@50",
    "pair_recall_10": "pair R@10",
    "pair_median_rank": "pair median rank",
    "neighbours_kept": "float neighbours kept",
}
# Scores that are in the files only, because the terminal is too narrow.
_FILE_SCORES = (
    "pair_recall_1",
    "asymmetric_map",
    "asymmetric_pair_recall_10",
    "asymmetric_neighbours_kept",
    "float_pair_recall_10",
)
_MEASURES = {
    "effective_bits": "effective bits",
    "iterations": "iterations",
    "seconds": "seconds",
}
# The plot shows the first score of this list that any run has.
_PLOTTED = ("map", "pair_recall_10")
# A legend with more lines is unreadable.
_MAX_LEGEND_LINES = 12


_REMEDY = "Remove the file to train the combination again."


@dataclass(frozen=True)
class _Result:
    """Result of one combination: records of its finished run, or the ``error`` of a failed run."""

    fingerprint: str
    store: dict[str, int]
    error: str | None = None
    summary: Summary | None = None
    last: IterationRecord | None = None
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if self.error is None and (self.summary is None or self.last is None):
            raise ValueError("a result without 'error' must have both 'summary' and 'last'")


# Files of a sweep that are replaced by every call with the same folder.
TABLES = {
    "results.json": json_kind("table of a sweep", "options", "rows"),
    "results.csv": OutputKind(
        "table of a sweep", lambda _path, content: b"error" in content.splitlines()[0].split(b",")
    ),
}


def read_result(path: Path) -> dict[str, Any]:
    """Read the result of a combination; raises StorageError if it is damaged or edited."""
    content = read_json(path)
    if isinstance(content, dict) and CRC in content:  # earlier versions recorded none
        content = check_manifest(content, path, _REMEDY)
    return check_shape(content, _Result, path, _REMEDY)


def make_row(values: Mapping[str, Any], record: Mapping[str, Any]) -> Row:
    """Make a row of the table from the record of a run.

    Parameters
    ----------
    values : values of the grid's options.
    record : for a finished run, its ``summary``, the ``last`` record of its history, and
        ``evaluation`` (None without scores). For a failed run, ``error``.

    Returns
    -------
    A mapping from column name to value. The columns are:

    - the grid's options;
    - the scores, each a mean over the directions. ``pair_recall_10`` is the fraction of queries
      whose true partner is among the 10 nearest rows. ``asymmetric_…`` are scores of float queries.
      ``neighbours_kept`` and ``float_…`` compare codes with float vectors, see `float_vectors`;
    - ``effective_bits`` of the codes, and the number of ``iterations``;
    - ``seconds`` of the loop and the model stage, without the shared features and graph.
    """
    row: Row = dict(values)
    row |= dict.fromkeys((*_SCORES, *_FILE_SCORES, *_MEASURES, "error"))
    if "error" in record:
        return {**row, "error": record["error"]}
    scores = record["evaluation"]
    if scores is not None:
        row |= _scores(scores)
    summary = record["summary"]
    seconds, final_codes = summary["seconds"], summary["condensed"]
    return row | {
        # With method.directions 0, the codes of the last iteration are the final codes.
        "effective_bits": (final_codes or record["last"])["effective_bits"],
        "iterations": summary["iterations"],
        "seconds": round(seconds["training"] + seconds["model"], 3),
    }


def _scores(scores: Mapping[str, Any]) -> Row:
    pair = scores["pair_recall"].values()
    row: Row = {
        "pair_recall_1": fmean(one["1"] for one in pair),
        "pair_recall_10": fmean(one["10"] for one in pair),
        "pair_median_rank": fmean(one["median_rank"] for one in pair),
    }
    asymmetric = scores.get("asymmetric") or {}
    kept = scores.get("neighbours_kept") or {}
    for name, values in (
        ("map", scores.get("map")),
        ("map_at_50", scores.get("map_at_50")),
        ("asymmetric_map", asymmetric.get("map")),
        ("asymmetric_pair_recall_10", _at_10(asymmetric.get("pair_recall"))),
        ("neighbours_kept", kept.get("symmetric")),
        ("asymmetric_neighbours_kept", kept.get("asymmetric")),
        ("float_pair_recall_10", _at_10(scores.get("float_pair_recall"))),
    ):
        if values and None not in values.values():
            row[name] = fmean(values.values())
    for direction, value in scores.get("map", {}).items():
        row[f"map_{direction}"] = value
    return row


def _at_10(pair: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the recall at 10 of partners, by direction; empty without measures."""
    return {direction: values["10"] for direction, values in (pair or {}).items()}


def write_results(
    folder: Path, options: Sequence[str], rows: Sequence[Row], progress: Progress
) -> None:
    """Write ``results.json`` and ``results.csv``; draw ``sweep.png`` if matplotlib is installed.

    With several seeds, also ``summary.csv``, ``.md`` and ``.tex``; see `over_seeds`.
    """
    write_json(folder / "results.json", {"options": list(options), "rows": list(rows)})
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "results.csv", text.getvalue())
    try:
        if averaged := over_seeds(options, rows):
            _write_summary(folder, options, averaged)
    except ExtraError as error:
        progress.note(f"summary.md: not written; {error}")
    try:
        plot_results(folder / "sweep.png", options, rows)
    except ExtraError as error:
        progress.note(f"sweep.png: not drawn; {error}")


def over_seeds(options: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """Average the scores of rows that differ in the option ``seed`` alone.

    Returns
    -------
    A row per setting of the other options: ``runs``, the number of seeds with a result, and for
    each score its mean over them and ``NAME_sd``, their standard deviation (None for one run).
    Without the option ``seed`` among several values, no rows.
    """
    if "seed" not in options or len({row["seed"] for row in rows}) < 2:
        return []
    others = [name for name in options if name != "seed"]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[name]) for name in others), []).append(row)
    averaged = []
    for group in groups.values():
        done = [row for row in group if row["error"] is None]
        mean: Row = {name: group[0][name] for name in others} | {"runs": len(done)}
        for name in (*_SCORES, *_MEASURES):
            values = [row[name] for row in done if row[name] is not None]
            mean[name] = fmean(values) if values else None
            mean[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
        averaged.append(mean)
    return averaged


def summary_cells(options: Sequence[str], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the rows of `over_seeds`, with mean ± standard deviation."""
    others = [name for name in options if name != "seed"]
    headings = {**_SCORES, **_MEASURES}
    shown = [name for name in headings if any(row[name] is not None for row in rows)]
    cells = []
    for row in rows:
        line = [str(row[name]) for name in (*others, "runs")]
        for name in shown:
            spread = row[f"{name}_sd"]
            line.append(_cell(row[name]) + ("" if spread is None else f" ± {spread:.2g}"))
        cells.append(line)
    return [*others, "runs", *(headings[name] for name in shown)], cells


def summary_table(options: Sequence[str], rows: Sequence[Row]) -> Table:
    """Format the rows of `over_seeds` as a terminal table."""
    headings, cells = summary_cells(options, rows)
    table = Table(box=box.SIMPLE)
    for heading in headings:
        table.add_column(heading, justify="right")
    for line in cells:
        table.add_row(*line)
    return table


def _write_summary(folder: Path, options: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the means over seeds as ``summary.csv``, ``.md`` and ``.tex``."""
    headings, cells = summary_cells(options, rows)
    for ending in ENDINGS:
        write_text(folder / f"summary{ending}", table_text(headings, cells, ending))


def results_table(options: Sequence[str], rows: Sequence[Row]) -> Table:
    """Format the rows as a terminal table; leave out columns without values."""
    headings = {**_SCORES, **_MEASURES, "error": "error"}
    shown = [name for name in headings if any(row[name] is not None for row in rows)]
    table = Table(box=box.SIMPLE)
    for name in [*options, *shown]:
        justify: Literal["left", "right"] = "left" if name == "error" else "right"
        table.add_column(headings.get(name, name), justify=justify)
    for row in rows:
        table.add_row(*[_cell(row[name]) for name in [*options, *shown]])
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot_results(path: Path, options: Sequence[str], rows: Sequence[Row]) -> None:
    """Plot the scores to ``path``, with one panel per option of the grid.

    A panel shows the score over the option's values, with one line per setting of the other
    options. The score is MAP or, without labels, recall of the true partner. If no run has scores,
    no file is written.
    """
    figures = require("matplotlib.figure", "report", "the plot of a sweep")
    scored = [name for name in _PLOTTED if any(row[name] is not None for row in rows)]
    if not scored:
        return
    figure = figures.Figure(figsize=(4.5 * len(options), 4), layout="constrained")
    panels = figure.subplots(1, len(options), squeeze=False)[0]
    for axes, option in zip(panels, options, strict=True):
        _plot_option(axes, option, options, rows, scored[0])
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def _plot_option(
    axes: Any, option: str, options: Sequence[str], rows: Sequence[Row], score: str
) -> None:
    values = list(dict.fromkeys(row[option] for row in rows))
    lines: dict[str, list[Row]] = {}
    for row in rows:
        others = ", ".join(f"{name}={row[name]}" for name in options if name != option)
        lines.setdefault(others, []).append(row)
    for label, line in lines.items():
        known = [row for row in line if row[score] is not None]
        places = [values.index(row[option]) for row in known]
        axes.plot(places, [row[score] for row in known], "o-", label=label or None)
    axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.set_xlabel(option)
    axes.set_ylabel(score)
    axes.grid(alpha=0.3)
    if 1 < len(lines) <= _MAX_LEGEND_LINES:
        axes.legend(fontsize="x-small")
