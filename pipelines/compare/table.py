"""The records of `run` as Markdown: one row a set, width and method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .published import published_records

Record = dict[str, Any]

ENCODERS = ("own", "ridge", "anchors")
_HEADS = {"own": "own encoder", "ridge": "ridge encoder", "anchors": "anchor encoder"}
_MEASURES = {"map": "MAP", "unseen": "unseen"}

_NOTE = """\
MAP {directions}, mean ± standard deviation over seeds; expectation over random order among ties.
Baselines are flattered: each is shown, a column of encoder at a time, with the point of its grid
that has the best TEST MAP (mean of both directions, seed 0), and that point alone is rerun with the
other seeds. SRCH is shown with its presets as they are. The ridge encoder and the anchor encoder,
two values of SRCH's option method.encoder, are fitted to each method's own training codes.
"MAP": the database are the training rows. "unseen": the database are the queries themselves,
each without its own pair, since an encoder may recall the rows that it was fitted to.
Seconds: median of a fit, with the encoder for SRCH and without scoring. Memory: of baselines, the
most that Python and NumPy hold during a fit beyond what was there (tracemalloc; without workspaces
inside LAPACK and faiss); of SRCH, the largest resident memory of a worker up to then (ru_maxrss;
interpreter and libraries, about 200 MB, included). So the two kinds do not compare."""


_SHORT_NOTE = """\
Means over seeds; in bold the best without labels of each row, † uses labels, ‡ compares real
values (the width of the code is then that of the row, not of the method)."""


def best_points(records: Sequence[Record]) -> dict[str, Record]:
    """By encoder the record with the highest MAP, mean of both directions."""
    best: dict[str, Record] = {}
    for name in ENCODERS:
        scored = [record for record in records if name in record.get("scores", {})]
        if scored:
            best[name] = max(scored, key=lambda r: float(np.mean(r["scores"][name]["map"])))
    if not best and records:
        best["own"] = records[0]  # failed everywhere: one record stays to say so
    return best


def shown_scores(records: Iterable[Record], encoder: str, measure: str) -> np.ndarray | None:
    """Scores (seeds, 2) of the point shown for an encoder; None where there is none."""
    found = [
        record["scores"][encoder][measure]
        for record in records
        if encoder in record["best_for"] and encoder in record.get("scores", {})
    ]
    return np.array(found) if found else None


def markdown(records: Sequence[Record]) -> str:
    """The table, what it says of SRCH in short, and the published figures."""
    if not records:
        return "No results.\n"
    directions = " / ".join(records[0]["directions"])
    parts = ["# Comparison", "", _NOTE.format(directions=directions), "", *_table(records)]
    for encoder in ENCODERS:
        heading = f"## In short: MAP, mean of both directions, {_HEADS[encoder]}"
        parts += ["", heading, "", _SHORT_NOTE, "", *_in_short(records, encoder)]
    parts += ["", "## SRCH balanced against the best of the others", "", *_summary(records)]
    parts += ["", "## Published, not run here", "", *_published()]
    return "\n".join(parts) + "\n"


def _table(records: Sequence[Record]) -> list[str]:
    columns = [(e, m) for m in _MEASURES for e in ENCODERS]
    heads = [f"{_MEASURES[m]}, {_HEADS[e]}" for e, m in columns]
    lines = header(["set", "bits", "method", *heads, "seconds", "MB"])
    for name, bits in _keys(records):
        here = [r for r in records if (r["set"], r["bits"]) == (name, bits)]
        for method in dict.fromkeys(r["method"] for r in here):
            mine = [r for r in here if r["method"] == method and r.get("best_for")]
            cells = [_spread(shown_scores(mine, e, m)) for e, m in columns]
            if errors := [r["error"] for r in mine if "error" in r]:
                cells[0] += f" {len(errors)} of {len(mine)} refused: {errors[0]}"
            lines.append(row([name, bits, method, *cells, *_costs(mine)]))
    return lines


def _in_short(records: Sequence[Record], encoder: str) -> list[str]:
    """A row a set and width, a column a method, the mean of both directions in each cell."""
    methods = {r["method"]: r for r in records}
    marks = {name: " †" * r["supervised"] + " ‡" * r["real"] for name, r in methods.items()}
    means = {(r["set"], r["bits"]): _method_means(records, r, encoder) for r in records}
    shown = [name for name in methods if any(name in found for found in means.values())]
    lines = header(["set", "bits", *(name + marks[name] for name in shown)])
    for (name, bits), found in means.items():
        best = max((v for m, v in found.items() if not methods[m]["supervised"]), default=0.0)
        cells = {m: f"**{v:.3f}**" if v == best else f"{v:.3f}" for m, v in found.items()}
        lines.append(row([name, bits, *(cells.get(m, "") for m in shown)]))
    return lines


def _method_means(records: Sequence[Record], like: Record, encoder: str) -> dict[str, float]:
    """By method the mean MAP over seeds and directions, on the set and width of ``like``."""
    here = [r for r in records if (r["set"], r["bits"]) == (like["set"], like["bits"])]
    found = {}
    for method in dict.fromkeys(r["method"] for r in here):
        mine = [r for r in here if r["method"] == method and r.get("best_for")]
        scores = shown_scores(mine, encoder, "map")
        if scores is not None:
            found[method] = float(scores.mean())
    return found


def _costs(records: list[Record]) -> tuple[str, str]:
    own = [r for r in records if "own" in r["best_for"]]
    seconds = [r["fit_seconds"] for r in own if "fit_seconds" in r]
    peaks = [r["peak_bytes"] for r in own if r.get("peak_bytes")]
    return (
        f"{np.median(seconds):.2f}" if seconds else "",
        f"{max(peaks) / 1e6:.0f}" if peaks else "",
    )


def _summary(records: Sequence[Record]) -> list[str]:
    """Mean of both directions: SRCH, then the best unsupervised binary and real-valued others."""
    heads = ["SRCH", "best binary, own encoder", "best binary, any encoder", "best real-valued"]
    lines = header(["set", "bits", *heads, "SRCH over float CCA"])
    for name, bits in _keys(records):
        here = [r for r in records if (r["set"], r["bits"]) == (name, bits)]
        ours = _best([r for r in here if r["method"] == "SRCH balanced"], ("own",))
        if ours is None:
            continue
        others = [r for r in here if not r["supervised"] and not r["method"].startswith("SRCH")]
        binary, real = ([r for r in others if r["real"] is kind] for kind in (False, True))
        cca = _best([r for r in real if r["method"] == "float CCA"], ("own",))
        found = [_best(binary, ("own",)), _best(binary, ENCODERS), _best(real, ("own",))]
        gain = f"{ours[0] / cca[0] - 1:+.0%}" if cca else ""
        cells = [f"{f[0]:.3f} {f[1]}" if f else "" for f in found]
        lines.append(row([name, bits, f"{ours[0]:.3f}", *cells, gain]))
    return lines


def _best(records: list[Record], encoders: Sequence[str]) -> tuple[float, str] | None:
    """The highest mean MAP and the method that has it."""
    found = []
    for method in dict.fromkeys(r["method"] for r in records):
        mine = [r for r in records if r["method"] == method and r.get("best_for")]
        for encoder in encoders:
            scores = shown_scores(mine, encoder, "map")
            if scores is not None:
                label = method if encoder == "own" else f"{method}, {_HEADS[encoder]}"
                found.append((float(scores.mean()), label))
    return max(found, default=None)


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
    """Mean and, over several seeds, standard deviation, both directions."""
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
