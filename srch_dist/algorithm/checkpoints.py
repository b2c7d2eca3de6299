"""Commit iterations and resume from the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.s_step import EdgeReweighting, s_step
from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.algorithm.z_step import (
    Embedding,
    stored_embedding,
)
from srch_dist.config.identity import fingerprint
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.kernels.code_update import CodeSums
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory


def _stored_steps(
    graph: BlockGraph, run: RunDirectory, iteration: int, config: TrainConfig
) -> tuple[Embedding | None, EdgeReweighting | None]:
    """Z and S of a committed iteration; S follows from Z, so checkpoints keep Z alone."""
    if not iteration:
        return None, None
    z = stored_embedding(run, graph.plan, iteration, config.loop_bits)
    return z, s_step(graph, z.groups, config)


@dataclass(frozen=True)
class _State:
    """What an iteration needs of the one before, beside what lies in the checkpoint."""

    iteration: int
    cross_covariance: Mapping[str, Matrix]
    objective: float
    changed: float
    reason: str


def _latest_state(
    run: RunDirectory, plan: Plan, statistics: Statistics, config: TrainConfig
) -> _State:
    """Where the loop begins: after the last committed iteration, if there is one."""
    manifest = run.latest()
    if manifest is None:
        run.restart_history([])
        return _State(0, statistics.cross_covariance, float("inf"), 1.0, "")
    if manifest["config"] != fingerprint(config) or manifest["rows"] != plan.rows:
        raise StorageError(
            f"{run.checkpoint(manifest['iteration'])} is of another run; remove {run.path}"
        )
    iteration, history = manifest["iteration"], manifest["history"]
    run.restart_history(history)
    folder = run.checkpoint(iteration, "cross_covariance")
    matrices = run.read_matrices(folder, manifest["checksums"]["cross_covariance"])
    last = history[-1]
    return _State(iteration, matrices, last["objective"], last["changed_bits"], manifest["reason"])


def verify_checkpoint(run: RunDirectory, plan: Plan) -> list[Delayed]:
    """Tasks that hold the arrays of the last committed iteration against their checksums."""
    manifest = run.latest()
    if manifest is None:
        return []
    paths = {kind: run.checkpoint(manifest["iteration"], kind) for kind in ("codes", "z")}
    return [
        tasks.task(arrays.verify_rows, path, *plan.span(p), manifest["checksums"][kind][p])
        for kind, path in paths.items()
        for p in plan.partitions
    ]


def _commit(
    run: RunDirectory,
    plan: Plan,
    iteration: int,
    sums: CodeSums,
    s: EdgeReweighting,
    z: Embedding,
    code_checksums: list[int],
    config: TrainConfig,
    reason: str,
) -> None:
    folder = run.checkpoint(iteration, "cross_covariance")
    matrices = run.write_matrices(folder, sums.cross_covariance)
    run.commit(
        iteration,
        {
            "iteration": iteration,
            "rows": plan.rows,
            "bits": len(sums.bit_sums),
            "shapes": {
                "codes": [plan.rows, len(sums.bit_sums) // 8],
                "z": [plan.rows, len(z.mean)],
            },
            "starts": plan.starts,
            "alpha": s.alpha if np.isfinite(s.alpha) else None,
            "config": fingerprint(config),
            "reason": reason,
            "checksums": {
                "codes": code_checksums,
                "z": list(z.checksums),
                "cross_covariance": matrices,
            },
            "history": run.history(),
        },
    )
