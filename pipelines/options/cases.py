"""What is tried of each option, and what there is to say of those that are not tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Options that a value is tried beside: neighbours by cluster, on data far too small for it.
_PARTITIONED = {"graph.method": "partitioned", "graph.cluster_rows": 300}


@dataclass(frozen=True)
class Case:
    """Values of one option that are tried.

    Attributes
    ----------
    values : tried one by one. beside : other options of these runs, and of the one that they are
        held against; by name, as ``graph.k``.
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
    Case("graph.overlap", (1, 4), _PARTITIONED),
    Case("graph.overlap_max", (2, 8), {**_PARTITIONED, "graph.recall_target": 0.999}),
    Case("graph.refine", (True,), _PARTITIONED),
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

# Rows of the ablation in README.md, which has five sets, that are about an option.
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
    "data": "where the data are",
    "out": "where the results go",
    "work": "where the work is done when the results go to an object store",
    "resume": "none: a run that goes on ends with the codes of one that was never interrupted "
    "(`tests/faults`)",
    "queries": "rows held out are not trained on; for data without a split, which the emoji have",
    "evaluate": "none on the codes; scores are made after them",
    "baseline": "none on the codes: another method, scored beside them",
    "report": "none on the codes: a page about them",
    "scheduler": "none on the codes: workers, wherever they are, do not change them",
    "workers_min": "when work begins, not what comes out",
    "workers_wait": "how long is waited before the command gives up",
    "keep_work": "none on the codes; `work/` stays on the disk",
    "features.max_zero_share": "none but for data that it refuses",
    "solver.max_iterations": "none but for a Z-step that it ends with an error",
    "tls.ca": "who may connect",
    "tls.cert": "who may connect",
    "tls.key": "who may connect",
}
