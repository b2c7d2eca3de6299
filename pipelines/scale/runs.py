"""Measured runs in the short form that the plots and the table of docs/benchmarks/scale.md need.

`pipelines.scale.run` writes this form as runs.json. The runs of the documentation are in
pipelines/scale/runs.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

MIB = 1 << 20
STAGES = {
    "features": "features",
    "graph": "graph",
    "w": "W-step",
    "z": "Z-step",
    "s": "S-step",
    "b": "B-step",
    "model": "model",
}
_HEADINGS = (
    *("pairs", "run", "seconds", "graph", "Z", "S", "B", "most CG iterations", "recall@10"),
    *("MAP, both directions", "MiB a worker", "client"),
)


def short(record: Record) -> Record:
    """Reduce a record of `pipelines.scale.run` to what plots and table show.

    Returns
    -------
    dict
        ``data``, ``rows``, ``srch_dist`` and ``reference`` (None without one). Both runs have
        ``seconds``, ``recall`` (the lowest), ``map`` (both directions), ``mib`` (peak memory above
        an idle process, of a worker for srch_dist), ``most_cg_iterations``, and ``cg_iterations``
        by outer iteration (None where only the largest is known). ``srch_dist`` also has
        ``client_mib`` and ``stages`` (seconds by stage), the reference ``graph`` (seconds).
    """
    engine, reference = record["engine"], record["reference"]
    return {
        "data": record["data"],
        "rows": engine["rows"],
        "srch_dist": {
            "seconds": round(engine["training_seconds"], 1),
            "stages": {name: round(engine["seconds"].get(name, 0.0), 2) for name in STAGES},
            "mib": _above_idle(engine["peak_bytes"]["worker"], engine["idle_bytes"]["worker"]),
            "client_mib": client_mib(engine),
            **_quality(engine),
        },
        "reference": _reference(reference) if reference else None,
    }


def _reference(reference: Record) -> Record:
    seconds = reference_seconds(reference)
    return {
        "seconds": round(sum(seconds.values()), 1),
        "graph": round(seconds["neighbours"] + seconds["graph"], 1),
        "mib": _above_idle(max(reference["peaks"].values()), reference["idle_bytes"]),
        **_quality(reference),
    }


def reference_seconds(reference: Record) -> dict[str, float]:
    """Seconds of the reference by stage, without compilation."""
    return {name: value for name, value in reference["seconds"].items() if name != "compile"}


def client_mib(engine: Record) -> float:
    """Peak memory of the client above its idle process, in MiB."""
    return _above_idle(engine["peak_bytes"]["client"], engine["idle_bytes"]["client"])


def _above_idle(peak: int, idle: int) -> float:
    return round((peak - idle) / MIB, 1)


def _quality(run: Record) -> Record:
    return {
        "most_cg_iterations": max(run["cg_iterations"]),
        "cg_iterations": run["cg_iterations"],
        "recall": min(run["recall"].values()),
        "map": list(run["map"].values()),
    }


def generated(records: list[Record]) -> list[Record]:
    """Records or runs of generated data, by size. Only they are alike, so only they show growth."""
    sized = [record for record in records if record["data"].isdigit()]
    return sorted(sized, key=lambda record: int(record["data"]))


def stage_shares(run: Record) -> dict[str, float]:
    """Share of a run's seconds by stage."""
    stages: dict[str, float] = run["srch_dist"]["stages"]
    total = sum(stages.values())
    return {name: value / total for name, value in stages.items()}


def data_name(run: Record) -> str:
    """Name of a run's data: the number of generated pairs, or the name of real pairs."""
    name: str = run["data"]
    return f"{int(name):,}" if name.isdigit() else name


def table(runs: list[Record]) -> str:
    """The runs as the Markdown table of docs/benchmarks/scale.md."""
    lines = []
    for run in runs:
        engine, reference = run["srch_dist"], run["reference"]
        name = "" if run["data"].isdigit() else f" ({run['data']})"
        steps = [engine["stages"][stage] for stage in ("graph", "z", "s", "b")]
        memory = [f"{engine['mib']:,.0f}", f"{engine['client_mib']:,.0f}"]
        cells = [f"{run['rows']:,}{name}", "srch-dist", *_seconds(engine["seconds"], *steps)]
        lines.append([*cells, *_quality_cells(engine), *memory])
        if reference:
            cells = ["", "reference", *_seconds(reference["seconds"], reference["graph"])]
            cells += ["", "", "", *_quality_cells(reference), f"{reference['mib']:,.0f}", ""]
            lines.append(cells)
    head = _line(_HEADINGS) + "|" + "---|" * len(_HEADINGS) + "\n"
    return head + "".join(_line(cells) for cells in lines)


def _seconds(*values: float) -> list[str]:
    return [f"{value:,.0f}" for value in values]


def _quality_cells(run: Record) -> list[str]:
    scores = " / ".join(f"{value:.3f}" for value in run["map"])
    return [f"{run['most_cg_iterations']}", f"{run['recall']:.3f}", scores]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells) + "\n"
