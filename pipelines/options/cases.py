"""Values to measure for each option, and the reason for each option that is not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Partitioned search, which the small emoji set would not use by default.
_PARTITIONED = {"graph.method": "partitioned", "graph.cluster_rows": 300}


@dataclass(frozen=True)
class Case:
    """Values of one option to measure.

    Attributes
    ----------
    option : str
        Name, e.g. ``graph.k``.
    values : tuple
        Values, measured one at a time.
    beside : mapping
        Other options by name, both for these runs and for the base run they are compared with.
    """

    option: str
    values: tuple[Any, ...]
    beside: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("bits", (16, 64, 128)),
    Case("preset", ("paper",)),
    Case("seed", (7,)),
    Case("rows", ("all",)),
    Case("precision", ("float32",)),
    Case("features.center", (False,)),
    Case("features.unit_norm", (False,)),
    Case("graph.k", (3, 5, 20, 40)),
    Case("graph.method", ("pynndescent", "partitioned")),
    Case("graph.symmetry", ("mutual",)),
    Case("graph.recall_rows", (100,), _PARTITIONED),
    Case("graph.recall_target", (0.5, 0.999), _PARTITIONED),
    Case("graph.cluster_rows", (150, 600), _PARTITIONED),
    Case("graph.leaves", (4, 16), _PARTITIONED),
    Case("graph.leaves_max", (12, 48), {**_PARTITIONED, "graph.recall_target": 0.999}),
    Case("graph.order_rows", (64,)),
    Case("method.scaling", ("printed",)),
    Case("method.alpha", (1e-4, 0.1, 10.0)),
    Case("method.beta", (0.1, 0.3, 3.0, 10.0)),
    Case("method.lam", (0.0, 1.0, 30.0, 100.0)),
    Case("method.omega", (0.0, 0.3, 3.0)),
    Case("method.center_z", (False,)),
    Case("method.weights", ("equal",)),
    Case("method.rotate", (False,)),
    Case("method.rebase", (False,)),
    Case("method.iterations", (1, 5)),
    Case("method.stop", ("objective",)),
    Case("method.threshold", (1e-2, 1e-4)),
    Case("method.directions", (0, 8, 16, 48)),
    Case("method.pair", (0.0, 0.3, 0.7, 1.0)),
    Case("method.embedding_rank", (0, 16)),
    Case("method.drop", (0.0, 1e-2)),
    Case("method.forcing", (0.0, 0.1)),
    Case("method.loop_bits", (32, 128)),
    Case("method.encoder", ("ridge", "projection")),
    Case("method.anchors", (100, 300)),
    Case("method.ridge", (0.01, 1.0)),
    Case("solver.tolerance", (1e-2, 1e-6)),
    Case("solver.coarse", ("on",)),
    Case("solver.warm", (False,)),
    Case("solver.fused", (1, 30)),
    Case("partition_rows", (200,)),
    Case("blocks", (4,), {"partition_rows": 200}),
    Case("columns", (8,)),
    Case("cache", ("off",)),
    Case("spill", ("on",)),
    Case("workers", (2,)),
    Case("memory_limit", ("1GiB",)),
)

# Row of the ablation in docs/benchmarks/quality.md (five data sets) for each option that has one.
ABLATION = {
    "method.omega": "graph (ω; off: 0)",
    "method.rebase": "rebase (off: S = 1)",
    "method.weights": "modality weights (mutual; off: equal)",
    "method.center_z": "centring of Z",
    "method.rotate": "rotation",
    "method.encoder": "anchor encoder (off: ridge)",
    "method.directions": "spread directions (off: 0)",
}

NOT_TRIED = {
    "data": "input location",
    "out": "output location",
    "work": "location of the run directory if the results go to an object store",
    "resume": "no effect on codes: a resumed run ends with the codes of an uninterrupted run "
    "(`tests/faults`)",
    "queries": "held-out rows are not trained on; applies to data without a split, which the "
    "emoji set has",
    "evaluate": "no effect on codes: evaluation follows training",
    "baseline": "no effect on codes: scores another method",
    "report": "no effect on codes: writes a page",
    "scheduler": "no effect on codes: the same on every cluster",
    "workers_min": "no effect on codes: when work starts",
    "workers_wait": "no effect on codes: how long the command waits",
    "scratch": "no effect on codes: size of a cache on each worker's disk",
    "keep_work": "no effect on codes: keeps `work/` on disk",
    "features.max_zero_share": "no effect on codes, unless it refuses the data",
    "solver.max_iterations": "no effect on codes, unless the Z-step reaches it and fails",
    "tls.ca": "no effect on codes: which processes may connect",
    "tls.cert": "no effect on codes: which processes may connect",
    "tls.key": "no effect on codes: which processes may connect",
}
