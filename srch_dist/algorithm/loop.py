"""Algorithm 1 of the paper: the loop over W-, Z-, S- and B-step, readable beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.b_step import b_step, load_features
from srch_dist.algorithm.features.normalise import Statistics
from srch_dist.algorithm.s_step import Rebased, s_step
from srch_dist.algorithm.solver.block_graph import BlockGraph, load_graph
from srch_dist.algorithm.w_step import code_rule, rotation, w_step
from srch_dist.algorithm.z_step import (
    Embedding,
    allowed_residual,
    embedding_weight,
    stored_embedding,
    z_step,
)
from srch_dist.config.loading import MethodConfig, TrainConfig, fingerprint
from srch_dist.errors import StorageError, TrainingError
from srch_dist.kernels.code_update import (
    COLLAPSED,
    CodeRule,
    CodeSums,
    correlation_summary,
    effective_bits,
)
from srch_dist.kernels.objective import Objective, auto_encoding_terms
from srch_dist.plan.planner import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Learned:
    """Where the loop ended.

    Attributes
    ----------
    iteration : the last one; its checkpoint holds the codes.
    cross_covariance : X_g B' (d_g, l) of those codes.
    reason : why the loop stopped.
    """

    iteration: int
    cross_covariance: Mapping[str, Matrix]
    reason: str


def learn_codes(
    run: RunDirectory,
    plan: Plan,
    statistics: Statistics,
    weights: Mapping[str, float],
    config: TrainConfig,
    progress: Progress,
    committed: Callable[[], None] = lambda: None,
) -> Learned:
    """Learn the codes of the training rows; each iteration is committed to ``run``.

    Goes on from the last one that is committed. ``committed`` is called after each, and may raise.
    ``weights`` says how far each modality is trusted, in the graph and in the projections.

    Raises
    ------
    TrainingError : the Z-step does not converge, or the codes collapse.
    """
    modalities = tuple(statistics.cross_covariance)
    state = _latest_state(run, plan, statistics, config)
    cross_covariance, before, changed = state.cross_covariance, state.objective, state.changed
    reason, iteration = state.reason, state.iteration
    if reason:
        return Learned(iteration, cross_covariance, reason)
    graph = load_graph(run, plan, np.array(list(weights.values())))
    features = load_features(run, plan, modalities) if plan.cached else None
    z, s = _stored_steps(graph, run, iteration, config)
    with progress.stage("training", config.method.iterations) as stage:
        stage.advance(iteration)
        while not reason:
            iteration += 1
            clock = _Clock()
            with clock.step("w"):
                w = w_step(cross_covariance)
            with clock.step("z"):
                # What an interrupted run left of its last iteration is in the first of this one.
                resumed = iteration == state.iteration + 1
                solver = replace(config.solver, tolerance=allowed_residual(config, changed))
                inexact = replace(config, solver=solver)
                z = z_step(graph, run, s, z, iteration, inexact, len(modalities), resumed)
            with clock.step("s"):
                s = s_step(graph, z.groups, config)
            with clock.step("b"):
                rule = _turned_rule(graph, run, w, z, statistics, weights, config)
                sums, checksums = b_step(run, plan, modalities, rule, iteration, features)
            _refuse_collapse(sums, plan.rows, iteration)
            cross_covariance = sums.cross_covariance
            objective = _objective(w, statistics, sums, s, plan.rows, config)
            record = _record(iteration, objective, sums, z, s, clock, plan, inexact)
            changed = record["changed_bits"]
            reason = _stopping_reason(config.method, iteration, objective, before, changed)
            before = objective.total
            run.append_history(record)
            _commit(run, plan, iteration, sums, s, z, checksums, config, reason)
            committed()
            stage.advance()
            progress.note(_line(record))
    return Learned(iteration, cross_covariance, reason)


def _stored_steps(
    graph: BlockGraph, run: RunDirectory, iteration: int, config: TrainConfig
) -> tuple[Embedding | None, Rebased | None]:
    """Z and S of a committed iteration; S follows from Z, so checkpoints keep Z alone."""
    if not iteration:
        return None, None
    z = stored_embedding(run, graph.plan, iteration, config.loop_bits)
    return z, s_step(graph, z.groups, config)


def _turned_rule(
    graph: BlockGraph,
    run: RunDirectory,
    w: Mapping[str, Matrix],
    z: Embedding,
    statistics: Statistics,
    weights: Mapping[str, float],
    config: TrainConfig,
) -> CodeRule:
    """The rule of the B-step with its rotation, if there is one."""
    rule = code_rule(w, z, statistics.grams, graph.plan.rows, weights, config)
    if not config.method.rotate:
        return rule
    return replace(rule, rotation=rotation(graph, run, rule, z.groups))


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


def _refuse_collapse(sums: CodeSums, n: int, iteration: int) -> None:
    """End a run whose codes no longer tell rows apart."""
    worth = effective_bits(sums.code_gram, sums.bit_sums, n)
    if worth < COLLAPSED:
        raise TrainingError(
            f"the codes collapsed in iteration {iteration}: {len(sums.bit_sums)} bits are worth "
            f"{worth:.2f} independent ones; lower method.lam or method.omega, or raise method.beta"
        )


def _objective(
    w: Mapping[str, Matrix],
    statistics: Statistics,
    sums: CodeSums,
    s: Rebased,
    n: int,
    config: TrainConfig,
) -> Objective:
    """Eq. 9 after the B-step."""
    quantisation, reconstruction = auto_encoding_terms(
        w, statistics.grams, sums.cross_covariance, sums.code_gram, n
    )
    embedding = embedding_weight(config, len(w)) * sums.embedding_error
    return Objective(quantisation, reconstruction, s.semantic, s.sparsity, embedding)


def _stopping_reason(
    method: MethodConfig,
    iteration: int,
    objective: Objective,
    before: float,
    changed: float,
) -> str:
    """Why the loop ends after this iteration; empty while it goes on."""
    if method.stop == "changed_bits":
        if changed < method.threshold:
            return f"changed bits {changed:.1e} below {method.threshold:g}"
    elif np.isfinite(before):
        change = abs(before - objective.total) / max(abs(before), np.finfo(float).tiny)
        if change < method.threshold:
            return f"relative change of the objective {change:.1e} below {method.threshold:g}"
    return f"{iteration} iterations" if iteration >= method.iterations else ""


def _record(
    iteration: int,
    objective: Objective,
    sums: CodeSums,
    z: Embedding,
    s: Rebased,
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
        "peak_memory": tasks.peak_memory(),
    }


def _commit(
    run: RunDirectory,
    plan: Plan,
    iteration: int,
    sums: CodeSums,
    s: Rebased,
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
