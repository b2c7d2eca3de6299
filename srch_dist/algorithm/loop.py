"""Algorithm 1 of the paper: the loop over W-, Z-, S- and B-step.

Line numbers are those of Algorithm 1 in Wang et al., "Set and Rebase", IJCAI 2020. The paper
writes samples as columns; the code stores X_g as (n, d_g) and W_g as (l, d_g), Z and B as (n, l).

====  ======================================================  =================================
line  computes                                                module
====  ======================================================  =================================
1–2   kNN graphs ε_g (Eq. 1) and edge weights C_g (Eq. 6)     `srch_dist.algorithm.neighbour_graph`
3     B random, S = 1                                         `srch_dist.algorithm.features`
5     W_g = Q Uᵀ from X_g Bᵀ = U Σ Qᵀ (Eq. 11)                `srch_dist.algorithm.w_step`
6     Z = β B (β I + λ H)⁻¹ (Eq. 14)                          `srch_dist.algorithm.z_step`
7     S_ij = α / (α + λ ‖z_i - z_j‖²) (Eq. 15)                `srch_dist.algorithm.s_step`
8     B = sign(β Z + Σ_g 2 W_g X_g) (Eq. 17)                  `srch_dist.algorithm.b_step`
====  ======================================================  =================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from srch_dist.algorithm.b_step import b_step, code_rule, refuse_collapse, with_rotation
from srch_dist.algorithm.checkpoints import (
    LoopState,
    commit_iteration,
    next_iteration,
    resume_state,
    resume_z_and_s,
)
from srch_dist.algorithm.features.reader import load_features
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.history import iteration_line, iteration_record
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.s_step import EdgeReweighting, s_step
from srch_dist.algorithm.solver.block_graph import load_graph
from srch_dist.algorithm.w_step import w_step
from srch_dist.algorithm.z_step import embedding_weight, z_step
from srch_dist.config.options import MethodConfig
from srch_dist.kernels.code_update import CodeSums
from srch_dist.kernels.objective import Objective, auto_encoding_terms
from srch_dist.kernels.types import Matrix


def learn_codes(job: Job, statistics: Statistics, weights: Mapping[str, float]) -> LoopState:
    """Run Algorithm 1 until its stopping rule is met; commit every iteration to the run directory.

    A resumed run continues after its last committed iteration.

    Parameters
    ----------
    statistics : Gram matrices X_g X_hᵀ, and X_g Bᵀ with B the random first codes.
    weights : weight of each modality in the graph and in the projections; the paper has weights 1.

    Returns
    -------
    The state after the last iteration. The checkpoint of the last iteration holds the codes B.

    Raises
    ------
    TrainingError : the Z-step does not converge, or the codes collapse.
    """
    state = resume_state(job, statistics)  # line 3: B, or the state of the last checkpoint
    if state.stopped():
        return state
    graph = load_graph(job.run, job.plan, np.array(list(weights.values())))  # lines 1 and 2
    features = load_features(job) if job.plan.cached else None
    z, s = resume_z_and_s(job, graph, state)  # line 3: S = 1, or S of the last checkpoint
    with job.progress.stage("training", job.config.method.iterations) as stage:
        stage.advance(state.iteration)
        while not state.stopped():  # line 4
            iteration = next_iteration(job, state)
            with iteration.timed("w"):  # line 5, Eq. 11: W_g = Q Uᵀ from X_g Bᵀ = U Σ Qᵀ
                w = w_step(state.cross_covariance)
            with iteration.timed("z"):  # line 6, Eq. 14: Z = β B (β I + λ H)⁻¹
                z = z_step(job, graph, iteration, s, z)
            with iteration.timed("s"):  # line 7, Eq. 15: S_ij = α / (α + λ ‖z_i - z_j‖²)
                s = s_step(job, graph, z.groups)
            with iteration.timed("b"):  # line 8, Eq. 17: B = sign(β Z + Σ_g 2 W_g X_g)
                rule = with_rotation(job, graph, code_rule(job, statistics, weights, w, z), z)
                b = b_step(job, iteration.number, rule, features)
            refuse_collapse(job, iteration.number, b.sums)
            objective = evaluate_objective(job, statistics, w, s, b.sums)  # Eq. 9
            record = iteration_record(job, iteration, objective, z, s, b.sums)
            reason = stopping_reason(job.config.method, state.objective, record)
            state = LoopState.after(iteration, record, b.sums, reason)
            commit_iteration(job, state, record, z, b)
            stage.advance()
            job.progress.note(iteration_line(record, job.config.method.iterations))
    return state


def evaluate_objective(
    job: Job,
    statistics: Statistics,
    w: Mapping[str, Matrix],
    s: EdgeReweighting,
    sums: CodeSums,
) -> Objective:
    """Compute the terms of Eq. 9, Σ_g L_g^A + λ L_g^S + α L_g^R + β L_Z (Eqs. 3, 4, 7, 5)."""
    quantisation, reconstruction = auto_encoding_terms(
        w, statistics.grams, sums.cross_covariance, sums.code_gram, job.plan.rows
    )
    embedding = embedding_weight(job) * sums.embedding_error
    return Objective(quantisation, reconstruction, s.semantic, s.sparsity, embedding)


def stopping_reason(method: MethodConfig, before: float, record: Mapping[str, Any]) -> str:
    """Say why the loop stops after an iteration; return an empty text if the loop continues.

    Parameters
    ----------
    before : value of Eq. 9 after the previous iteration. For the first iteration, the value is
        infinite, as in the paper.
    record : record of the iteration; see `iteration_record`.
    """
    if method.stop == "changed_bits":
        changed = record["changed_bits"]
        if changed < method.threshold:
            return f"changed bits {changed:.1e} below {method.threshold:g}"
    elif np.isfinite(before):
        change = abs(before - record["objective"]) / max(abs(before), np.finfo(float).tiny)
        if change < method.threshold:
            return f"relative change of the objective {change:.1e} below {method.threshold:g}"
    number = record["iteration"]
    return f"{number} iterations" if number >= method.iterations else ""
