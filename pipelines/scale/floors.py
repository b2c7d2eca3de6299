"""Hardware floor of a CG iteration: the same products and vector updates without halo exchange."""

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
    """Median seconds of one CG iteration without communication, on all blocks at once.

    Each block multiplies its CSR matrix, halo columns included, with vectors (rows, columns) and
    updates the vectors of single-reduction CG. Halo values stay constant, so no block waits for
    another. Column groups, and scratch files for the graph, are those of the plan.

    Parameters
    ----------
    run : RunDirectory
        Finished run with its work folder; supplies the graph in training order.
    plan : Plan
        Plan with one block per worker.
    bits : int
        Columns of Z in the loop.

    Returns
    -------
    float
        Seconds of the slowest block, times the number of column groups.
    """
    graph = load_graph(run, plan, np.ones(len(plan.methods)))
    folder = graph.scratch("floor")
    work = [
        tasks.task(_iterate, block, plan.columns, folder and folder / f"{b:06d}")
        for b, block in enumerate(graph.blocks)
    ]
    return len(plan.column_groups(bits)) * float(np.max(tasks.run_all(work)))


def _iterate(block: GraphBlock, columns: int, folder: Path | None) -> float:
    """Median seconds of an iteration of one block, on random vectors (rows, columns)."""
    rows = block.rows
    system = make_system(block, None, np.inf, SystemRule(1.0, 1.0, np.dtype(np.float32)), folder)
    matrix = system.off_diagonal
    rng = np.random.default_rng(0)
    with_halo = rng.standard_normal((rows + len(block.halo), columns), dtype=np.float32)
    x, r, p, s = (rng.standard_normal((rows, columns), dtype=np.float32) for _ in range(4))
    diagonal, step = np.full((rows, 1), 2.0, dtype=np.float32), np.float32(1e-3)
    seconds = []
    for _ in range(_ITERATIONS):
        started = time.perf_counter()
        u = with_halo[:rows]
        np.divide(r, diagonal, out=u)
        w = matrix @ with_halo
        for left, right in ((r, u), (w, u), (r, r)):
            np.einsum("ij,ij->j", left, right)
        for target, other in ((p, u), (s, w)):
            target *= step
            target += other
        x += step * p
        r -= step * s
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[_SKIPPED:]))
