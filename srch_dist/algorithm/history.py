"""History of a run: the record and the log line of each iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from srch_dist.algorithm.iteration import Iteration
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.s_step import EdgeReweighting
from srch_dist.algorithm.z_step import Embedding
from srch_dist.kernels.code_statistics import correlation_summary, effective_bits
from srch_dist.kernels.code_update import CodeSums
from srch_dist.kernels.objective import Objective
from srch_dist.runtime import memory


def iteration_record(
    job: Job,
    iteration: Iteration,
    objective: Objective,
    z: Embedding,
    s: EdgeReweighting,
    sums: CodeSums,
) -> dict[str, Any]:
    """Make an iteration's record for ``history.jsonl``, from the results of its steps."""
    n = job.plan.rows
    means = np.abs(sums.bit_sums) / n
    return {
        "iteration": iteration.number,
        "objective": objective.total,
        "terms": objective.terms(),
        "changed_bits": sums.changed / (n * job.config.loop_bits),
        "effective_bits": effective_bits(sums.code_gram, sums.bit_sums, n),
        "bit_balance": {"mean": float(means.mean()), "worst": float(means.max())},
        "bit_correlation": correlation_summary(sums.code_gram, sums.bit_sums, n),
        "alpha": s.alpha if np.isfinite(s.alpha) else None,
        "cg_iterations": z.cg_iterations,
        "cg_residual": z.cg_residual,
        "cg_tolerance": iteration.tolerance,
        "cg_iteration_seconds": round(z.cg_iteration_seconds, 5),
        "cg_residuals": [float(f"{residual:.4g}") for residual in z.cg_residuals],
        "s_counts": s.counts.tolist(),
        "seconds": iteration.seconds,
        "peak_memory": memory.peak_memory(),
    }


def iteration_line(record: Mapping[str, Any], iterations: int) -> str:
    """Format an iteration's record as a log line.

    ``iterations`` is the maximum number of iterations of the loop.
    """
    seconds = sum(record["seconds"].values())
    left = iterations - record["iteration"]
    return (
        f"iteration {record['iteration']:>2}: objective {record['objective']:.6g}, "
        f"changed bits {record['changed_bits']:.2%}, "
        f"{record['cg_iterations']} CG iterations, {seconds:.2f} s; "
        f"at most {left} more, {left * seconds:.0f} s"
    )
