"""What the machine allows: an iteration of conjugate gradients without any exchange."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.solver.assembly import make_system
from srch_dist.algorithm.solver.block_graph import load_graph
from srch_dist.kernels.graph.block import GraphBlock
from srch_dist.kernels.graph.laplacian import SystemRule
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage.run.directory import RunDirectory

Array = NDArray[Any]

_ITERATIONS, _SKIPPED = 12, 2


def cg_iteration_seconds(run: RunDirectory, plan: Plan, bits: int) -> float:
    """Median seconds of an iteration on all blocks at once, one a worker, none waiting for another.

    The run's graph in the run's order, a block's CSR with the columns of its halo (whose values
    stand still) times its vectors (rows, l), and the vector updates of a single-reduction method;
    in as many groups of columns, and from files where the plan keeps the graph there.
    """
    graph = load_graph(run, plan, np.ones(len(plan.methods)))
    folder = graph.scratch("floor")
    work = [
        tasks.task(_iterate, block, plan.columns, folder and folder / f"{b:06d}")
        for b, block in enumerate(graph.blocks)
    ]
    return len(plan.column_groups(bits)) * float(np.max(tasks.run_all(work)))


def _iterate(block: GraphBlock, bits: int, folder: Path | None) -> float:
    rows = block.rows
    system = make_system(block, None, np.inf, SystemRule(1.0, 1.0, np.dtype(np.float32)), folder)
    matrix = system.off_diagonal
    rng = np.random.default_rng(0)
    both = rng.standard_normal((rows + len(block.halo), bits), dtype=np.float32)
    x, r, p, s = (rng.standard_normal((rows, bits), dtype=np.float32) for _ in range(4))
    diagonal, step = np.full((rows, 1), 2.0, dtype=np.float32), np.float32(1e-3)
    spent = []
    for _ in range(_ITERATIONS):
        started = time.perf_counter()
        u = both[:rows]
        np.divide(r, diagonal, out=u)
        w = matrix @ both
        for left, right in ((r, u), (w, u), (r, r)):
            np.einsum("ij,ij->j", left, right)
        for target, other in ((p, u), (s, w)):
            target *= step
            target += other
        x += step * p
        r -= step * s
        spent.append(time.perf_counter() - started)
    return float(np.median(spent[_SKIPPED:]))
