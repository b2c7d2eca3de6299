"""The B-step as a Dask graph: the only pass over X of an iteration, reading ahead of its work.

Passes after the loop read their tiles here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.features.normalise import create_codes
from srch_dist.algorithm.solver.block_graph import BlockGraph, pick_rows
from srch_dist.algorithm.z_step import Embedding, embedding_weight
from srch_dist.config.options import TrainConfig
from srch_dist.kernels.code_update import CodeRule, CodeSums, code_scores, update_codes
from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.packed_codes import sign_codes
from srch_dist.kernels.projections import balanced_scales, polar_factor
from srch_dist.kernels.types import Array, Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.read_ahead import read_ahead
from srch_dist.storage.run.directory import RunDirectory

# Of rows from a first one up to a last.
Reader = Callable[[int, int], Array]


def b_step(
    run: RunDirectory,
    plan: Plan,
    modalities: tuple[str, ...],
    rule: CodeRule,
    iteration: int,
    features: Sequence[Delayed] | None = None,
) -> tuple[CodeSums, list[int]]:
    """B by Eq. 17, with all sums over X that the next iteration needs: the only pass over X.

    Writes the codes of the iteration's checkpoint; returns the sums and each partition's crc32.
    ``features`` are those of `load_features`; without them they are read from the run.
    """
    bits = len(rule.z_mean)
    arrays.remove(run.checkpoint(iteration, "codes"))
    create_codes(run, plan, bits, iteration)
    shared = tasks.as_task_input(rule)
    if features is None:
        parts = [
            tasks.task_pair(
                _update_stored, run, modalities, [plan.span(p) for p in some], shared, iteration
            )
            for some in plan.passes
        ]
    else:
        parts = [
            tasks.task_pair(_update_kept, run, features[p], plan.span(p), shared, iteration)
            for p in plan.partitions
        ]
    total = tasks.add_up([sums for sums, _ in parts])
    results = tasks.run_all([total, *(checksums for _, checksums in parts)])
    return results[0], [checksum for some in results[1:] for checksum in some]


def _update_stored(
    run: RunDirectory,
    modalities: tuple[str, ...],
    spans: list[tuple[int, int]],
    rule: CodeRule,
    iteration: int,
) -> tuple[CodeSums, list[int]]:
    """The B-step on consecutive partitions; each is read while the one before is worked on."""
    features = {g: arrays.reader(run.features(g)) for g in modalities}
    z, before = _code_readers(run, iteration)

    def read(span: tuple[int, int]) -> tuple[dict[str, Array], Array, Array]:
        return {g: rows(*span) for g, rows in features.items()}, z(*span), before(*span)

    found = [
        _update_partition(run, span, rule, iteration, *inputs)
        for span, inputs in zip(spans, read_ahead(read, spans), strict=True)
    ]
    total = found[0][0]
    for sums, _ in found[1:]:
        total = total + sums
    return total, [checksum for _, checksum in found]


def _update_kept(
    run: RunDirectory,
    features: dict[str, Array],
    span: tuple[int, int],
    rule: CodeRule,
    iteration: int,
) -> tuple[CodeSums, list[int]]:
    """The B-step on one partition whose features are in memory."""
    z, before = (rows(*span) for rows in _code_readers(run, iteration))
    sums, checksum = _update_partition(run, span, rule, iteration, features, z, before)
    return sums, [checksum]


def _code_readers(run: RunDirectory, iteration: int) -> tuple[Reader, Reader]:
    """Those of Z (rows, l) of an iteration and of the packed codes (rows, l / 8) before it."""
    z, before = run.checkpoint(iteration, "z"), run.checkpoint(iteration - 1, "codes")
    return arrays.reader(z), arrays.reader(before)


def _update_partition(
    run: RunDirectory,
    span: tuple[int, int],
    rule: CodeRule,
    iteration: int,
    features: dict[str, Array],
    z: Array,
    before: Array,
) -> tuple[CodeSums, int]:
    codes, sums = update_codes(rule, features, z, before)
    return sums, arrays.write_rows(run.checkpoint(iteration, "codes"), span[0], codes)


_LEAST_TURN = 1e-3


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
    scores = tasks.task(_sample_product, run, tasks.as_task_input(rule), *parts)
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
