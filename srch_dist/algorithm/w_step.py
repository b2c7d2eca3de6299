"""The W-step of Algorithm 1, and the rule of its B-step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.solver.block_graph import BlockGraph, pick_rows
from srch_dist.algorithm.z_step import Embedding, embedding_weight
from srch_dist.config.loading import TrainConfig
from srch_dist.kernels.code_update import CodeRule, code_scores
from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.packed_codes import sign_codes
from srch_dist.kernels.projections import balanced_scales, polar_factor, procrustes
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

Array = NDArray[Any]
Matrix = NDArray[np.float64]
_LEAST_TURN = 1e-3


def w_step(cross_covariance: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """W_g (l, d_g) from X_g B' (d_g, l): Eq. 11, on the client."""
    return {g: procrustes(matrix) for g, matrix in cross_covariance.items()}


def code_rule(
    w: Mapping[str, Matrix],
    z: Embedding,
    grams: GramMatrices,
    n: int,
    weights: Mapping[str, float],
    config: TrainConfig,
) -> CodeRule:
    """How the B-step puts Z and the projections together; see `CodeRule`."""
    if config.method.scaling == "printed":
        beta = embedding_weight(config, len(w))
        return CodeRule({g: 2 * part for g, part in w.items()}, np.zeros_like(z.mean), beta)
    scales = balanced_scales(w, grams, n, weights)
    level = float(np.sqrt(np.mean(z.mean**2)))
    mean, rms = (z.mean, z.rms) if config.method.center_z else (0 * z.mean, np.hypot(z.rms, level))
    # An embedding that is constant to rounding says nothing; it must not be blown up.
    weight = 0.0 if rms <= 1e-6 * level else config.method.omega / rms
    return CodeRule({g: scales[g] * part for g, part in w.items()}, mean, weight)


def rotation(
    graph: BlockGraph, run: RunDirectory, rule: CodeRule, groups: Sequence[Sequence[Delayed]]
) -> Matrix:
    """Q (l, l), which turns the scores T of the sampled rows towards their signs.

    The orthogonal Q nearest to T'sign(T): one step of iterative quantisation (Gong et al., TPAMI
    2013), and with it the paper's dropped BB' = nI in closed form, since Q mixes bits that say
    the same. ``groups`` holds Z as of `Embedding`.
    """
    rows = arrays.read_rows(run.sample("rows"))
    parts = []
    for b in graph.plan.blocks:
        low, high = graph.plan.block_span(b)
        inside = rows[(rows >= low) & (rows < high)] - low
        picked = [tasks.task(pick_rows, blocks[b], inside) for blocks in groups]
        parts.append(tasks.task(_side_by_side, *picked))
    scores = tasks.task(_sample_product, run, tasks.literal(rule), *parts)
    product: Matrix = tasks.run_one(scores)
    # Bits that agree on the whole sample leave Q open; among equals the least turn is taken.
    anchor = _LEAST_TURN * np.trace(product) / len(product)
    return polar_factor(product + anchor * np.eye(len(product)))


def _sample_product(run: RunDirectory, rule: CodeRule, *z: Array) -> Matrix:
    """T'sign(T) (l, l) of the sampled rows."""
    features = {g: arrays.read_rows(run.sample(g)).astype(np.float64) for g in rule.projections}
    scores = code_scores(rule, features, np.concatenate(z))
    return np.asarray(scores.T @ sign_codes(scores).astype(np.float64))


def _side_by_side(*parts: Array) -> Array:
    return np.concatenate(parts, axis=1)
