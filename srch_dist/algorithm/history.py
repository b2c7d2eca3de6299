"""The history of a run: one record for each iteration, and its log line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from srch_dist.algorithm.s_step import EdgeReweighting
from srch_dist.algorithm.z_step import (
    Embedding,
)
from srch_dist.config.options import TrainConfig
from srch_dist.kernels.code_statistics import correlation_summary, effective_bits
from srch_dist.kernels.code_update import CodeSums
from srch_dist.kernels.objective import Objective
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import memory


def _record(
    iteration: int,
    objective: Objective,
    sums: CodeSums,
    z: Embedding,
    s: EdgeReweighting,
    clock: _Clock,
    plan: Plan,
    config: TrainConfig,
) -> dict[str, Any]:
    """One line of the history; ``config`` is that of the Z-step."""
    means = np.abs(sums.bit_sums) / plan.rows
    return {
        "iteration": iteration,
        "objective": objective.total,
        "terms": objective.terms(),
        "changed_bits": sums.changed / (plan.rows * config.loop_bits),
        "effective_bits": effective_bits(sums.code_gram, sums.bit_sums, plan.rows),
        "bit_balance": {"mean": float(means.mean()), "worst": float(means.max())},
        "bit_correlation": correlation_summary(sums.code_gram, sums.bit_sums, plan.rows),
        "alpha": s.alpha if np.isfinite(s.alpha) else None,
        "cg_iterations": z.cg_iterations,
        "cg_residual": z.cg_residual,
        "cg_tolerance": config.solver.tolerance,
        "cg_iteration_seconds": round(z.cg_iteration_seconds, 5),
        "cg_residuals": [float(f"{one:.4g}") for one in z.cg_residuals],
        "s_counts": s.counts.tolist(),
        "seconds": clock.seconds,
        "peak_memory": memory.peak_memory(),
    }


def _line(record: Mapping[str, Any]) -> str:
    seconds = sum(record["seconds"].values())
    return (
        f"iteration {record['iteration']:>2}: objective {record['objective']:.6g}, "
        f"changed bits {record['changed_bits']:.2%}, "
        f"{record['cg_iterations']} CG iterations, {seconds:.2f} s"
    )


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 4)
