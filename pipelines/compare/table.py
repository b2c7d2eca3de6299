"""Markdown tables of the records of `run`: one row per data set, code length and method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .published import published_records

Record = dict[str, Any]

ENCODERS = ("own", "ridge", "anchors")
_HEADS = {"own": "own encoder", "ridge": "ridge encoder", "anchors": "anchor encoder"}
_MEASURES = {"map": "MAP", "unseen": "unseen", "pair_10": "own pair in 10"}

_NOTE = """\
MAP {directions}, mean ± standard deviation over seeds, in expectation over random order among ties.

- **The selection favours the baselines.** Each encoder column shows a baseline at the grid point
  with the best TEST MAP (mean of both directions, seed 0). Only that point runs with the other
  seeds. SRCH runs with its unchanged presets.
- **Encoders.** The ridge encoder and the anchor encoder are two values of SRCH's option
  method.encoder. They are fitted to each method's training codes.
- **Databases.** "MAP": the training rows are the database. "unseen": the queries are the database,
  without each query's own pair, since an encoder may remember the rows that it was fitted to.
- **Seconds.** Median of a fit, without scoring. For SRCH the fit includes the encoder.
- **MB.** For baselines: the peak that Python and NumPy allocate during a fit (tracemalloc), without
  workspaces inside LAPACK and faiss. For SRCH: the peak resident memory of a worker so far
  (ru_maxrss), about 200 MB of interpreter and libraries included. Do not compare the two."""


_SHORT_NOTE = """\
Means over seeds. Bold: best method without labels in a row. †: uses labels. ‡: compares real
values; the bits of the row do not apply to it."""


def best_points(records: Sequence[Record]) -> dict[str, Record]:
    """The record with the highest MAP, mean of both directions, by encoder."""
    best: dict[str, Record] = {}
    for name in ENCODERS:
        scored = [record for record in records if name in record.get("scores", {})]
        if scored:
            best[name] = max(scored, key=lambda r: float(np.mean(r["scores"][name]["map"])))
    if not best and records:
        best["own"] = records[0]  # every point failed: keep one record to report the error
    return best


def shown_scores(records: Iterable[Record], encoder: str, measure: str) -> np.ndarray | None:
    """Scores (seeds, 2) of the grid point shown for an encoder; None without scores."""
    scores = [
        record["scores"][encoder][measure]
        for record in records
        if encoder in record["best_for"] and encoder in record.get("scores", {})
    ]
    return np.array(scores) if scores else None


def markdown(records: Sequence[Record]) -> str:
    """The full table, a summary per encoder, SRCH against the best others, published figures."""
    if not records:
        return "No results.\n"
    directions = " / ".join(records[0]["directions"])
    parts = ["# Comparison", "", _NOTE.format(directions=directions), "", *_table(records)]
    for encoder in ENCODERS:
        heading = f"## Summary: MAP, mean of both directions, {_HEADS[encoder]}"
        parts += ["", heading, "", _SHORT_NOTE, "", *_summary(records, encoder)]
    pairs = "## Summary: own pair among the first 10, mean of both directions, own encoder"
    parts += ["", pairs, "", _SHORT_NOTE, "", *_summary(records, "own", "pair_10")]
    parts += ["", "## SRCH balanced against the best other methods", "", *_against_best(records)]
    parts += ["", "## Published results, not reproduced here", "", *_published()]
    return "\n".join(parts) + "\n"


def _table(records: Sequence[Record]) -> list[str]:
    columns = [(e, m) for m in _MEASURES for e in ENCODERS]
    heads = [f"{_MEASURES[m]}, {_HEADS[e]}" for e, m in columns]
    lines = header(["set", "bits", "method", *heads, "seconds", "MB"])
    for name, bits in _keys(records):
        here = [r for r in records if (r["set"], r["bits"]) == (name, bits)]
        for method in dict.fromkeys(r["method"] for r in here):
            shown = [r for r in here if r["method"] == method and r.get("best_for")]
            cells = [_spread(shown_scores(shown, e, m)) for e, m in columns]
            if errors := [r["error"] for r in shown if "error" in r]:
                cells[0] += f" {len(errors)} of {len(shown)} refused: {errors[0]}"
            lines.append(row([name, bits, method, *cells, *_costs(shown)]))
    return lines


def _summary(records: Sequence[Record], encoder: str, measure: str = "map") -> list[str]:
    """One row per data set and code length, one column per method: mean of both directions."""
    methods = {r["method"]: r for r in records}
    marks = {name: " †" * r["supervised"] + " ‡" * r["real"] for name, r in methods.items()}
    means = {(r["set"], r["bits"]): _method_means(records, r, encoder, measure) for r in records}
    shown = [name for name in methods if any(name in values for values in means.values())]
    lines = header(["set", "bits", *(name + marks[name] for name in shown)])
    for (name, bits), values in means.items():
        best = max((v for m, v in values.items() if not methods[m]["supervised"]), default=0.0)
        cells = {m: f"**{v:.3f}**" if v == best else f"{v:.3f}" for m, v in values.items()}
        lines.append(row([name, bits, *(cells.get(m, "") for m in shown)]))
    return lines


def _method_means(
    records: Sequence[Record], like: Record, encoder: str, measure: str
) -> dict[str, float]:
    """Mean score over seeds and directions by method, on the set and code length of ``like``."""
    here = [r for r in records if (r["set"], r["bits"]) == (like["set"], like["bits"])]
    means = {}
    for method in dict.fromkeys(r["method"] for r in here):
        shown = [r for r in here if r["method"] == method and r.get("best_for")]
        scores = shown_scores(shown, encoder, measure)
        if scores is not None:
            means[method] = float(scores.mean())
    return means


def _costs(records: list[Record]) -> tuple[str, str]:
    own = [r for r in records if "own" in r["best_for"]]
    seconds = [r["fit_seconds"] for r in own if "fit_seconds" in r]
    peaks = [r["peak_bytes"] for r in own if r.get("peak_bytes")]
    return (
        f"{np.median(seconds):.2f}" if seconds else "",
        f"{max(peaks) / 1e6:.0f}" if peaks else "",
    )


def _against_best(records: Sequence[Record]) -> list[str]:
    """Mean of both directions: SRCH, and the best unsupervised binary and real-valued methods."""
    heads = ["SRCH", "best binary, own encoder", "best binary, any encoder", "best real-valued"]
    lines = header(["set", "bits", *heads, "SRCH over float CCA"])
    for name, bits in _keys(records):
        here = [r for r in records if (r["set"], r["bits"]) == (name, bits)]
        srch = _best([r for r in here if r["method"] == "SRCH balanced"], ("own",))
        if srch is None:
            continue
        others = [r for r in here if not r["supervised"] and not r["method"].startswith("SRCH")]
        binary, real = ([r for r in others if r["real"] is kind] for kind in (False, True))
        cca = _best([r for r in real if r["method"] == "float CCA"], ("own",))
        best = [_best(binary, ("own",)), _best(binary, ENCODERS), _best(real, ("own",))]
        gain = f"{srch[0] / cca[0] - 1:+.0%}" if cca else ""
        cells = [f"{b[0]:.3f} {b[1]}" if b else "" for b in best]
        lines.append(row([name, bits, f"{srch[0]:.3f}", *cells, gain]))
    return lines


def _best(records: list[Record], encoders: Sequence[str]) -> tuple[float, str] | None:
    """The highest mean MAP, and the method and encoder that reach it."""
    means = []
    for method in dict.fromkeys(r["method"] for r in records):
        shown = [r for r in records if r["method"] == method and r.get("best_for")]
        for encoder in encoders:
            scores = shown_scores(shown, encoder, "map")
            if scores is not None:
                label = method if encoder == "own" else f"{method}, {_HEADS[encoder]}"
                means.append((float(scores.mean()), label))
    return max(means, default=None)


def _published() -> list[str]:
    lines = header(
        ["set (the paper's features)", "bits", "method", "MAP image → text / text → image"]
    )
    for r in published_records():
        lines.append(row([r["set"], r["bits"], r["method"], _pair(r["map"])]))
    return lines


def _keys(records: Sequence[Record]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((r["set"], r["bits"]) for r in records))


def _spread(scores: np.ndarray | None) -> str:
    """Mean of both directions; with the standard deviation if there are several seeds."""
    if scores is None:
        return ""
    if len(scores) == 1:
        return _pair(scores[0])
    return f"{_pair(scores.mean(axis=0))} ± {_pair(scores.std(axis=0, ddof=1))}"


def _pair(values: Any) -> str:
    return "/".join(f"{value:.3f}" for value in values)


def header(names: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [row(names), "|" + "---|" * len(names)]


def row(cells: Sequence[object]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
