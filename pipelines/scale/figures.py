"""The figures of scale, made of measured records, and their tables.

A record is ``{"data", "engine", "reference"}``, as of `pipelines.scale.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

Record = dict[str, Any]

MIB = 1 << 20
_SHARES = ("features", "graph", "w", "z", "s", "b", "model")


@dataclass(frozen=True)
class Needs:
    """What a figure is measured on, where the command line says nothing else."""

    sizes: tuple[int, ...]
    reference: bool
    options: dict[str, Any] = field(default_factory=dict)


# Growth is that of the algorithm only where every size works alike: nothing kept, one partition
# size, as many blocks and columns as the largest size is given in workers of 2 GiB.
_ALIKE = {"cache": "off", "partition_rows": 8192, "blocks": 1, "columns": 8, "spill": "on"}
# Every Z-step from zero to the default tolerance, whatever still changes: counts that a first graph
# and re-weighted ones ask for.
_COLD = {
    "method": {"iterations": 6, "threshold": 0.0, "forcing": 0.0},
    "solver": {"warm": False},
}
FIGURES: dict[str, Needs] = {
    "all": Needs((250_000, 1_000_000), True),
    "knn": Needs((1_000_000,), True, {"method": {"iterations": 1}}),
    "cg": Needs((1_000_000,), False, _COLD),
    "b-step": Needs((1_000_000,), False),
    "training": Needs((), True),
    "growth": Needs((250_000, 1_000_000, 4_000_000), False, _ALIKE),
    "plan": Needs((62_500, 250_000, 1_000_000), False),
}


def figures(records: list[Record]) -> list[dict[str, Any]]:
    """Every figure that the records allow: ``{"what", "data", "measured", "target"}``."""
    found = [row for record in records for make in _SINGLE for row in make(record)]
    return found + _growth(records)


def _row(what: str, record: Record, measured: float, target: str) -> dict[str, Any]:
    return {"what": what, "data": record["data"], "measured": measured, "target": target}


def _knn(record: Record) -> list[dict[str, Any]]:
    engine, reference = record["engine"], record["reference"]
    rows = [
        _row("least recall@10", record, min(engine["recall"].values()), "≥ 0.95"),
        _row("clusters a row is searched in, most", record, max(engine["overlap"].values()), ""),
    ]
    if reference:
        ratio = engine["seconds"]["graph"] / reference["seconds"]["neighbours"]
        least = min(reference["recall"].values())
        rows += [
            _row("least recall@10 of the reference", record, least, ""),
            _row("graph, time against one index", record, ratio, "≤ 2.5"),
        ]
    return rows


def _memory(record: Record) -> list[dict[str, Any]]:
    engine, reference = record["engine"], record["reference"]
    worker = engine["peak_bytes"]["worker"] - engine["idle_bytes"]["worker"]
    rows = [_row("client above idle, MiB", record, _client(engine) / MIB, "")]
    if reference:
        whole = reference["peaks"]["neighbours"] - reference["idle_bytes"]
        rows.append(_row("worker above idle, against one index", record, worker / whole, "≤ 0.25"))
    return rows


def _client(engine: Record) -> int:
    return int(engine["peak_bytes"]["client"] - engine["idle_bytes"]["client"])


def _solver(record: Record) -> list[dict[str, Any]]:
    engine = record["engine"]
    taken, each = engine["cg_iterations"], engine["cg_iteration_seconds"]
    around = 1 - float(np.dot(taken, each)) / engine["seconds"]["z"]
    ratio = float(np.median(each)) / engine["cg_floor_seconds"]
    return [
        _row("most CG iterations", record, max(taken), "≤ 25"),
        _row("CG iteration against its floor", record, ratio, "≤ 2.5"),
        _row("Z-steps outside of their iterations, share", record, around, ""),
    ]


def code_pass_floors(engine: Record) -> dict[str, float]:
    """Seconds of a pass over X by reading alone and by products alone, all workers at once."""
    rates, n, bits = engine["rates"], engine["rows"], engine["bits"]
    total = sum(engine["dims"].values())
    wide = 2 if engine["plan"]["precision"] == "float64" else 1
    read = 0 if engine["plan"]["cached"] else n * total * 4 * wide
    operations = 2 * n * bits * 2 * total * wide
    return {
        "read": (read + n * bits * 4) / (rates["read"] * engine["workers"]),
        "products": operations / (rates["gemm"] * engine["workers"]),
    }


def _code_pass(record: Record) -> list[dict[str, Any]]:
    engine = record["engine"]
    floor = max(code_pass_floors(engine).values())
    share = floor / engine["step_seconds"]["b"]
    return [_row("slower floor of the B-step pass, share", record, share, "≥ 0.6")]


def _training(record: Record) -> list[dict[str, Any]]:
    engine, reference = record["engine"], record["reference"]
    if not reference:
        return []
    other = sum(value for name, value in reference["seconds"].items() if name != "compile")
    gap = max(abs(engine["map"][pair] - reference["map"][pair]) for pair in engine["map"])
    return [
        _row("training, time against the reference", record, engine["training_seconds"] / other,
             "≤ 0.7"),
        _row("MAP, most that it differs from the reference", record, gap, "noise"),
    ]  # fmt: skip


def _scheduler(record: Record) -> list[dict[str, Any]]:
    engine = record["engine"]
    plan = engine["plan"]
    loop = sum(stage["tasks"] for stage in plan["stages"] if "step" in stage["name"])
    once = sum(stage["tasks"] for stage in plan["stages"] if "step" not in stage["name"])
    spent = (once + engine["iterations"] * loop) * engine["rates"]["task"]
    share = spent / engine["training_seconds"]
    return [_row("scheduler, share of the run", record, share, "≤ 0.1")]


# Stages of the plan by those whose peaks a run records. Features and model are left out: in the
# first the workers hold NN-descent, which is compiled before the run here, and the model, with
# ridge encoders, asks for next to nothing.
_PARTS = {"graph": ("neighbours", "graph"), "training": ("Z-step", "S-step", "B-step")}
# Files that are gone when the run is finished.
_PASSING = ("scratch", "graph in the loop")


def planned(engine: Record) -> dict[str, tuple[float, float]]:
    """What the plan said, at the measured rates and CG iterations, and what was measured."""
    stages = {stage["name"]: stage for stage in engine["plan"]["stages"]}
    steps = engine["step_seconds"]
    most = max(stage["worker_bytes"] for stage in stages.values())
    disk = sum(size for name, size in engine["plan"]["disk"].items() if name not in _PASSING)
    graph = stages["neighbours"]["seconds"] + stages["graph"]["seconds"]
    idle = engine["plan"]["idle_bytes"]
    memory = {
        f"worker in {name} MiB": (
            (idle + max(stages[part]["worker_bytes"] for part in parts)) / MIB,
            engine["stage_peaks"][name]["worker"] / MIB,
        )
        for name, parts in _PARTS.items()
    }
    return {
        "worker MiB": ((idle + most) / MIB, engine["peak_bytes"]["worker"] / MIB),
        **memory,
        "disk MiB": (disk / MIB, engine["disk_bytes"] / MIB),
        "features, s": (stages["features"]["seconds"], engine["seconds"]["features"]),
        "graph, s": (graph, engine["seconds"]["graph"]),
        "Z-step, s": (stages["Z-step"]["seconds"], steps["z"]),
        "S-step, s": (stages["S-step"]["seconds"], steps["s"]),
        "B-step, s": (stages["B-step"]["seconds"], steps["b"]),
        "model, s": (stages["model"]["seconds"], engine["seconds"]["model"]),
    }


def _plan(record: Record) -> list[dict[str, Any]]:
    return [
        _row(f"plan over measured, {name}", record, expected / max(found, 1e-9), "1")
        for name, (expected, found) in planned(record["engine"]).items()
    ]


_SINGLE: tuple[Callable[[Record], list[dict[str, Any]]], ...] = (
    _knn,
    _memory,
    _solver,
    _code_pass,
    _training,
    _scheduler,
    _plan,
)


def generated(records: list[Record]) -> list[Record]:
    """Those of generated data, by size: other data is not alike, so nothing grows with it."""
    sized = [record for record in records if record["data"].isdigit()]
    return sorted(sized, key=lambda record: int(record["data"]))


def _growth(records: list[Record]) -> list[dict[str, Any]]:
    """Time and memory of each generated size against the one before."""
    found = []
    for small, large in pairwise(generated(records)):
        name = {"data": f"{small['data']} to {large['data']}"}
        time = [record["engine"]["training_seconds"] for record in (small, large)]
        memory = [record["engine"]["peak_bytes"]["worker"] for record in (small, large)]
        # Of four times the rows; of another ratio, by the same exponent.
        factor = np.log(4) / np.log(int(large["data"]) / int(small["data"]))
        found += [
            _row("time of four times the rows", name, (time[1] / time[0]) ** factor, "≤ 4.5"),
            _row("memory a worker, ratio", name, memory[1] / memory[0], "≤ 1.15"),
        ]
    return found


def markdown(records: list[Record], found: list[dict[str, Any]]) -> str:
    """Two tables: what each run took, and the figures."""
    lines = [
        "| data | rows | run | seconds | graph | Z | S | B | CG | recall | MAP | worker MiB "
        "| client MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        lines.append(_engine_line(record))
        if record["reference"]:
            lines.append(_reference_line(record))
    lines += ["", "| figure | data | measured | target |", "|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['data']} | {row['measured']:.3g} | {row['target']} |"
        for row in found
    ]
    return "\n".join(lines) + "\n"


def _engine_line(record: Record) -> str:
    engine = record["engine"]
    seconds, above = engine["seconds"], engine["peak_bytes"]
    cells = [
        record["data"], f"{engine['rows']}", "engine", f"{engine['training_seconds']:.1f}",
        *(f"{seconds[name]:.1f}" for name in ("graph", "z", "s", "b")),
        f"{max(engine['cg_iterations'])}", f"{min(engine['recall'].values()):.3f}",
        _pair(engine["map"]),
        f"{(above['worker'] - engine['idle_bytes']['worker']) / MIB:.0f}",
        f"{_client(engine) / MIB:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _reference_line(record: Record) -> str:
    reference = record["reference"]
    seconds = {name: value for name, value in reference["seconds"].items() if name != "compile"}
    graph = seconds["neighbours"] + seconds["graph"]
    above = max(reference["peaks"].values()) - reference["idle_bytes"]
    cells = [
        record["data"], f"{record['engine']['rows']}", "reference", f"{sum(seconds.values()):.1f}",
        f"{graph:.1f}", "–", "–", "–", f"{max(reference['cg_iterations'])}",
        f"{min(reference['recall'].values()):.3f}", _pair(reference["map"]),
        f"{above / MIB:.0f}", "–",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _pair(scores: dict[str, float]) -> str:
    return " / ".join(f"{value:.3f}" for value in scores.values())


def stage_shares(engine: Record) -> dict[str, float]:
    """Share of the run's seconds by stage."""
    spent = {name: engine["seconds"].get(name, 0.0) for name in _SHARES}
    total = sum(spent.values())
    return {name: value / total for name, value in spent.items()}
