"""Algorithm 1 of the paper: the loop over W-, Z-, S- and B-step, readable beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from srch_dist.algorithm.b_step import b_step, code_rule, rotation
from srch_dist.algorithm.checkpoints import _commit, _latest_state, _stored_steps
from srch_dist.algorithm.features.reader import load_features
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.history import _Clock, _line, _record
from srch_dist.algorithm.s_step import EdgeReweighting, s_step
from srch_dist.algorithm.solver.block_graph import BlockGraph, load_graph
from srch_dist.algorithm.w_step import w_step
from srch_dist.algorithm.z_step import (
    Embedding,
    allowed_residual,
    embedding_weight,
    z_step,
)
from srch_dist.config.options import MethodConfig, TrainConfig
from srch_dist.errors import TrainingError
from srch_dist.kernels.code_statistics import COLLAPSED, effective_bits
from srch_dist.kernels.code_update import CodeRule, CodeSums
from srch_dist.kernels.objective import Objective, auto_encoding_terms
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.progress import Progress
from srch_dist.storage.run.directory import RunDirectory


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
    s: EdgeReweighting,
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
