"""Plot a series of runs: time and memory over rows, time share of stages, CG iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .figures import MIB, generated, stage_shares

Record = dict[str, Any]


def draw(records: list[Record], folder: Path) -> list[Path]:
    """Write the plots as PNG files and return their paths."""
    mpl.use("Agg")
    plots = {"growth": _growth, "stages": _stages, "cg": _cg}
    paths = []
    for name, plot in plots.items():
        figure = Figure(figsize=(8, 4), layout="constrained")
        plot(figure, records)
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def _growth(figure: Figure, records: list[Record]) -> None:
    time, memory = figure.subplots(1, 2)
    ordered = generated(records) or records
    rows = [record["engine"]["rows"] for record in ordered]
    time.plot(rows, [r["engine"]["training_seconds"] for r in ordered], "o-", label="engine")
    for side in ("worker", "client"):
        values = [
            (r["engine"]["peak_bytes"][side] - r["engine"]["idle_bytes"][side]) / MIB
            for r in ordered
        ]
        memory.plot(rows, values, "o-", label=side)
    compared = [record for record in ordered if record["reference"]]
    if compared:
        rows = [record["engine"]["rows"] for record in compared]
        references = [record["reference"] for record in compared]
        seconds = [sum(v for k, v in r["seconds"].items() if k != "compile") for r in references]
        peaks = [(max(r["peaks"].values()) - r["idle_bytes"]) / MIB for r in references]
        time.plot(rows, seconds, "s--", label="reference")
        memory.plot(rows, peaks, "s--", label="reference")
    for axes, label in ((time, "seconds"), (memory, "peak memory above idle, MiB")):
        axes.set(xlabel="training rows", ylabel=label, xscale="log", yscale="log")
        axes.legend()


def _stages(figure: Figure, records: list[Record]) -> None:
    axes = figure.subplots()
    names = [record["data"] for record in records]
    left = [0.0] * len(records)
    shares = [stage_shares(record["engine"]) for record in records]
    for stage in shares[0]:
        values = [share[stage] for share in shares]
        axes.barh(names, values, left=left, label=stage)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.set(xlabel="share of run time", xlim=(0, 1))
    axes.legend(ncols=7, loc="upper center", bbox_to_anchor=(0.5, 1.15))


def _cg(figure: Figure, records: list[Record]) -> None:
    axes = figure.subplots()
    for record in records:
        counts = record["engine"]["cg_iterations"]
        axes.plot(range(1, len(counts) + 1), counts, "o-", label=f"{record['data']}, engine")
        if record["reference"]:
            counts = record["reference"]["cg_iterations"]
            axes.plot(range(1, len(counts) + 1), counts, "s--", label=f"{record['data']}, Jacobi")
    axes.set(xlabel="outer iteration", ylabel="CG iterations, slowest column", ylim=(0, None))
    axes.legend()
