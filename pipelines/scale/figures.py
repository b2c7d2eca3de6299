"""Scale figures computed from measured records, and their Markdown tables.

A record is ``{"data", "engine", "reference"}``, as `pipelines.scale.run` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .runs import MIB, client_mib, generated, reference_seconds, short, table

Record = dict[str, Any]


@dataclass(frozen=True)
class Defaults:
    """What a figure is measured on by default.

    Attributes
    ----------
    sizes : tuple of int
        Training rows of generated data.
    reference : bool
        Run the in-memory reference, too.
    options : dict
        Options of the runs, nested as in a YAML file.
    """

    sizes: tuple[int, ...]
    reference: bool
    options: dict[str, Any] = field(default_factory=dict)


# Growth measures the algorithm only if every size is partitioned alike: no cache, one partition
# size, and the blocks and columns that the largest size gets in workers of 2 GiB.
_SAME_PARTITIONING = {
    "cache": "off",
    "partition_rows": 8192,
    "blocks": 1,
    "columns": 8,
    "spill": "on",
}
# Every Z-step starts from zero and ends at the default tolerance, on the first graph and on
# re-weighted ones.
_COLD_START = {
    "method": {"iterations": 6, "threshold": 0.0, "forcing": 0.0},
    "solver": {"warm": False},
}
FIGURES: dict[str, Defaults] = {
    "all": Defaults((250_000, 1_000_000), True),
    "knn": Defaults((1_000_000,), True, {"method": {"iterations": 1}}),
    "cg": Defaults((1_000_000,), False, _COLD_START),
    "b-step": Defaults((1_000_000,), False),
    "training": Defaults((), True),
    "growth": Defaults((250_000, 1_000_000, 4_000_000), False, _SAME_PARTITIONING),
    "plan": Defaults((62_500, 250_000, 1_000_000), False),
}


def figures(records: list[Record]) -> list[dict[str, Any]]:
    """Every figure that the records allow: ``{"what", "data", "measured", "target"}``."""
    rows = [row for record in records for make in _PER_RECORD for row in make(record)]
    return rows + _growth(records)


def _row(what: str, record: Record, measured: float, target: str) -> dict[str, Any]:
    return {"what": what, "data": record["data"], "measured": measured, "target": target}


def _knn(record: Record) -> list[dict[str, Any]]:
    engine, reference = record["engine"], record["reference"]
    rows = [
        _row("lowest recall@10", record, min(engine["recall"].values()), "≥ 0.95"),
        _row("leaves per row, maximum", record, max(engine["leaves"].values()), ""),
    ]
    if reference:
        ratio = engine["seconds"]["graph"] / reference["seconds"]["neighbours"]
        lowest = min(reference["recall"].values())
        rows += [
            _row("lowest recall@10, reference", record, lowest, ""),
            _row("graph time / one index", record, ratio, "≤ 2.5"),
        ]
    return rows


def _memory(record: Record) -> list[dict[str, Any]]:
    engine, reference = record["engine"], record["reference"]
    worker = engine["peak_bytes"]["worker"] - engine["idle_bytes"]["worker"]
    rows = [_row("client memory above idle, MiB", record, client_mib(engine), "")]
    if reference:
        index = reference["peaks"]["neighbours"] - reference["idle_bytes"]
        ratio = worker / index
        rows.append(_row("worker memory above idle / one index", record, ratio, "≤ 0.25"))
    return rows


def _solver(record: Record) -> list[dict[str, Any]]:
    engine = record["engine"]
    iterations, seconds = engine["cg_iterations"], engine["cg_iteration_seconds"]
    outside = 1 - float(np.dot(iterations, seconds)) / engine["seconds"]["z"]
    ratio = float(np.median(seconds)) / engine["cg_floor_seconds"]
    return [
        _row("CG iterations, maximum", record, max(iterations), "≤ 25"),
        _row("CG iteration time / floor", record, ratio, "≤ 2.5"),
        _row("share of Z-step time outside CG iterations", record, outside, ""),
    ]


def b_step_floors(engine: Record) -> dict[str, float]:
    """Seconds to read X and Z, and seconds of the products of one pass, on all workers at once."""
    rates, n, bits = engine["rates"], engine["rows"], engine["bits"]
    total = sum(engine["dims"].values())
    # In units of float32: float64 doubles bytes and operations.
    width = 2 if engine["plan"]["precision"] == "float64" else 1
    read = 0 if engine["plan"]["cached"] else n * total * 4 * width
    operations = 2 * n * bits * 2 * total * width
    return {
        "read": (read + n * bits * 4) / (rates["read"] * engine["workers"]),
        "products": operations / (rates["gemm"] * engine["workers"]),
    }


def _b_step(record: Record) -> list[dict[str, Any]]:
    engine = record["engine"]
    floor = max(b_step_floors(engine).values())
    share = floor / engine["step_seconds"]["b"]
    return [_row("B-step: slower floor / pass", record, share, "≥ 0.6")]


def _training(record: Record) -> list[dict[str, Any]]:
    engine, reference = record["engine"], record["reference"]
    if not reference:
        return []
    ratio = engine["training_seconds"] / sum(reference_seconds(reference).values())
    difference = max(abs(engine["map"][pair] - reference["map"][pair]) for pair in engine["map"])
    return [
        _row("training time / reference", record, ratio, "≤ 0.7"),
        _row("MAP, largest difference from the reference", record, difference, "noise"),
    ]


def _scheduler(record: Record) -> list[dict[str, Any]]:
    engine = record["engine"]
    plan = engine["plan"]
    loop = sum(stage["tasks"] for stage in plan["stages"] if "step" in stage["name"])
    setup = sum(stage["tasks"] for stage in plan["stages"] if "step" not in stage["name"])
    seconds = (setup + engine["iterations"] * loop) * engine["rates"]["task"]
    share = seconds / engine["training_seconds"]
    return [_row("scheduler, share of the run", record, share, "≤ 0.1")]


# Stages of the plan, by the stage whose peak memory a run records. Two stages are not compared.
# During "features" workers hold NN-descent, which this benchmark compiles before the run. "model"
# needs almost no memory with ridge encoders.
_PLAN_STAGES = {"graph": ("neighbours", "graph"), "training": ("Z-step", "S-step", "B-step")}
# Files that the run deletes before it finishes.
_TEMPORARY = ("scratch", "graph in the loop")


def planned(engine: Record) -> dict[str, tuple[float, float]]:
    """Planned and measured value by quantity; the plan uses measured rates and CG iterations."""
    stages = {stage["name"]: stage for stage in engine["plan"]["stages"]}
    steps = engine["step_seconds"]
    highest = max(stage["worker_bytes"] for stage in stages.values())
    disk = sum(size for name, size in engine["plan"]["disk"].items() if name not in _TEMPORARY)
    graph = stages["neighbours"]["seconds"] + stages["graph"]["seconds"]
    idle = engine["plan"]["idle_bytes"]
    memory = {
        f"worker in {name} MiB": (
            (idle + max(stages[part]["worker_bytes"] for part in parts)) / MIB,
            engine["stage_peaks"][name]["worker"] / MIB,
        )
        for name, parts in _PLAN_STAGES.items()
    }
    return {
        "worker MiB": ((idle + highest) / MIB, engine["peak_bytes"]["worker"] / MIB),
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
        _row(f"plan / measured, {name}", record, expected / max(measured, 1e-9), "1")
        for name, (expected, measured) in planned(record["engine"]).items()
    ]


_PER_RECORD: tuple[Callable[[Record], list[dict[str, Any]]], ...] = (
    _knn,
    _memory,
    _solver,
    _b_step,
    _training,
    _scheduler,
    _plan,
)


def _growth(records: list[Record]) -> list[dict[str, Any]]:
    """Time and memory of each generated size over the next smaller one."""
    rows = []
    for small, large in pairwise(generated(records)):
        name = {"data": f"{small['data']} to {large['data']}"}
        time = [record["engine"]["training_seconds"] for record in (small, large)]
        memory = [record["engine"]["peak_bytes"]["worker"] for record in (small, large)]
        # Scale the exponent of growth to four times the rows, whatever the ratio of the sizes.
        exponent = np.log(4) / np.log(int(large["data"]) / int(small["data"]))
        rows += [
            _row("time for 4 × rows, ratio", name, (time[1] / time[0]) ** exponent, "≤ 4.5"),
            _row("worker memory, ratio", name, memory[1] / memory[0], "≤ 1.15"),
        ]
    return rows


def markdown(records: list[Record], rows: list[dict[str, Any]]) -> str:
    """Two tables: cost and quality of each run, then the figures of `figures`."""
    lines = ["| figure | data | measured | target |", "|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['data']} | {row['measured']:.3g} | {row['target']} |"
        for row in rows
    ]
    return table([short(record) for record in records]) + "\n" + "\n".join(lines) + "\n"
