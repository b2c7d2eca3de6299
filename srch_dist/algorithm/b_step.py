"""B-step, line 8 of Algorithm 1: B = sign(β Z + Σ_g 2 W_g X_g) (Eq. 17).

The B-step makes the only pass over X in an iteration. For each partition, the pass computes the
codes and adds to three sums: X_g Bᵀ for the next W-step, B Bᵀ and ‖Z - B‖² for Eq. 9. `code_rule`
chooses the scales of the terms β Z and Σ_g 2 W_g X_g: as printed in the paper, or balanced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.features.row_order import create_codes
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.solver.block_graph import BlockGraph, pick_rows
from srch_dist.algorithm.z_step import Embedding, embedding_weight
from srch_dist.errors import TrainingError
from srch_dist.kernels.code_statistics import COLLAPSED, effective_bits
from srch_dist.kernels.code_update import CodeRule, CodeSums, code_scores, update_codes
from srch_dist.kernels.packed_codes import sign_codes
from srch_dist.kernels.projections import balanced_scales, polar_factor
from srch_dist.kernels.types import Array, Matrix
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location
from srch_dist.storage.read_ahead import read_ahead
from srch_dist.storage.run.directory import RunDirectory

# Called as ``reader(start, stop)``; returns the rows start … stop - 1.
Reader = Callable[[int, int], Array]
# Z counts as constant if its rms about the column means is at most this share of their rms.
_LEAST_SPREAD = 1e-6
# Weight of the identity in the rotation, relative to the mean diagonal of Tᵀ sign(T).
_LEAST_TURN = 1e-3


@dataclass(frozen=True)
class CodeUpdate:
    """Result of a B-step.

    Attributes
    ----------
    sums : `CodeSums` over all rows, with the new codes.
    checksums : crc32 of each partition's packed codes.
    """

    sums: CodeSums
    checksums: list[int]


def b_step(
    job: Job, number: int, rule: CodeRule, features: Sequence[Delayed] | None = None
) -> CodeUpdate:
    """Compute B by Eq. 17 and store it in the checkpoint of iteration ``number``.

    Parameters
    ----------
    rule : scales of Z and of the projections; see `code_rule`.
    features : partitions on the workers, from `load_features`; None reads them from the run.
    """
    run, plan, modalities = job.run, job.plan, job.modalities
    bits = len(rule.z_mean)
    arrays.remove(run.checkpoint(number, "codes"))
    create_codes(run, plan, bits, number)
    shared = tasks.as_task_input(rule)
    if features is None:
        # Every iteration reads the same partitions on a worker, whose cache of objects has them.
        homes = nullcontext if isinstance(run.path, Path) else tasks.on_worker
        parts = []
        for home, partitions in enumerate(plan.passes):
            spans = [plan.span(p) for p in partitions]
            with homes(home):
                parts.append(
                    tasks.task_pair(_update_stored, run, modalities, spans, shared, number)
                )
    else:
        parts = [
            tasks.task_pair(_update_kept, run, features[p], plan.span(p), shared, number)
            for p in plan.partitions
        ]
    total = tasks.add_up([sums for sums, _ in parts])
    sums, *checksums = tasks.run_all([total, *(checksums for _, checksums in parts)])
    return CodeUpdate(sums, [checksum for part in checksums for checksum in part])


def code_rule(
    job: Job,
    statistics: Statistics,
    weights: Mapping[str, float],
    w: Mapping[str, Matrix],
    z: Embedding,
) -> CodeRule:
    """Choose the scales of the two terms of Eq. 17.

    ``method.scaling: printed`` computes β Z + Σ_g 2 W_g X_g. ``balanced`` computes
    ω (Z - mean) / rms(Z - mean) + P / rms(P) with P = Σ_g weights_g W_g X_g / rms(W_g X_g), where
    rms is the root mean square of all entries. Without a pass over X, rms(P) and rms(W_g X_g)
    follow from the Gram matrices in ``statistics``.

    Parameters
    ----------
    weights : weight of each modality in P.
    w, z : results of the W- and Z-step of this iteration.
    """
    method = job.config.method
    if method.scaling == "printed":
        beta = embedding_weight(job)
        printed = {g: 2 * matrix for g, matrix in w.items()}
        return CodeRule(printed, np.zeros_like(z.mean), beta, z.basis)
    scales = balanced_scales(w, statistics.grams, job.plan.rows, weights)
    level = float(np.sqrt(np.mean(z.mean**2)))
    mean, rms = (z.mean, z.rms) if method.center_z else (0 * z.mean, np.hypot(z.rms, level))
    # An embedding that is constant up to rounding must not be scaled up.
    z_scale = 0.0 if rms <= _LEAST_SPREAD * level else method.omega / rms
    return CodeRule({g: scales[g] * matrix for g, matrix in w.items()}, mean, z_scale, z.basis)


def with_rotation(job: Job, graph: BlockGraph, rule: CodeRule, z: Embedding) -> CodeRule:
    """Add the matrix of `rotation` to ``rule`` if ``method.rotate`` is on; else return ``rule``."""
    if not job.config.method.rotate:
        return rule
    return replace(rule, rotation=rotation(job.run, graph, rule, z.groups))


def rotation(
    run: RunDirectory, graph: BlockGraph, rule: CodeRule, groups: Sequence[Sequence[Delayed]]
) -> Matrix:
    """Compute the orthogonal Q (l, l) that rotates the scores T towards their signs.

    T (m, l) is the argument of sign in Eq. 17, at the m rows of the run's fixed sample.

    Q is the polar factor of Tᵀ sign(T): one step of iterative quantisation (Gong et al., TPAMI
    2013). Q mixes correlated bits. This replaces the constraint B Bᵀ = n I, which Eq. 17 drops.

    Parameters
    ----------
    groups : Z V on the workers. Each column group has one array (rows, columns) per block.
    """
    rows = arrays.read_rows(run.sample("rows"))
    parts = []
    for b in graph.plan.blocks:
        low, high = graph.plan.block_span(b)
        inside = rows[(rows >= low) & (rows < high)] - low
        picked = [tasks.task(pick_rows, blocks[b], inside) for blocks in groups]
        parts.append(tasks.task(_join_columns, *picked))
    paths = {g: run.sample(g) for g in rule.projections}
    product: Matrix = tasks.run_one(
        tasks.task(_sample_product, paths, tasks.as_task_input(rule), *parts)
    )
    # If two bits agree on the whole sample, Q is not unique: adding the identity keeps it near I.
    anchor = _LEAST_TURN * np.trace(product) / len(product)
    return polar_factor(product + anchor * np.eye(len(product)))


def refuse_collapse(job: Job, number: int, sums: CodeSums) -> None:
    """Raise TrainingError if the codes of iteration ``number`` have too few `effective_bits`."""
    worth = effective_bits(sums.code_gram, sums.bit_sums, job.plan.rows)
    if worth < COLLAPSED:
        raise TrainingError(
            f"the codes collapsed in iteration {number}: {len(sums.bit_sums)} bits are "
            f"equivalent to {worth:.2f} independent bits. Lower method.lam or method.omega, or "
            "raise method.beta."
        )


def _update_stored(
    run: RunDirectory,
    modalities: tuple[str, ...],
    spans: list[tuple[int, int]],
    rule: CodeRule,
    number: int,
) -> tuple[CodeSums, list[int]]:
    """Compute and store the new codes of consecutive partitions.

    While a partition is computed, a thread reads the next partition. Returns the sums over the
    rows of these partitions, and the crc32 of each partition's codes.
    """
    features = {g: arrays.reader(run.features(g)) for g in modalities}
    z, before = _code_readers(run, number)

    def read(span: tuple[int, int]) -> tuple[dict[str, Array], Array, Array]:
        return {g: rows(*span) for g, rows in features.items()}, z(*span), before(*span)

    codes = run.checkpoint(number, "codes")
    updates = [
        _update_partition(codes, span[0], rule, *inputs)
        for span, inputs in zip(spans, read_ahead(read, spans), strict=True)
    ]
    total = updates[0][0]
    for sums, _ in updates[1:]:
        total = total + sums
    return total, [checksum for _, checksum in updates]


def _update_kept(
    run: RunDirectory,
    features: dict[str, Array],
    span: tuple[int, int],
    rule: CodeRule,
    number: int,
) -> tuple[CodeSums, list[int]]:
    """Compute and store the new codes of one partition whose features are in worker memory.

    Returns the sums over its rows, and a list with the crc32 of its codes.
    """
    z, before = (rows(*span) for rows in _code_readers(run, number))
    codes = run.checkpoint(number, "codes")
    sums, checksum = _update_partition(codes, span[0], rule, features, z, before)
    return sums, [checksum]


def _code_readers(run: RunDirectory, number: int) -> tuple[Reader, Reader]:
    """Open Z V (n, r) of iteration ``number``, and packed codes (n, l / 8) of the previous one."""
    z, before = run.checkpoint(number, "z"), run.checkpoint(number - 1, "codes")
    return arrays.reader(z), arrays.reader(before)


def _update_partition(
    codes: Location,
    start: int,
    rule: CodeRule,
    features: dict[str, Array],
    z: Array,
    before: Array,
) -> tuple[CodeSums, int]:
    """Compute a partition's new codes, and write them to ``codes`` from row ``start`` on.

    ``z`` (rows, r) is the partition's Z V, and ``before`` (rows, l / 8) its previous packed codes.
    Returns the sums over the partition's rows, and the crc32 of its new codes.
    """
    packed, sums = update_codes(rule, features, z, before)
    return sums, arrays.write_rows(codes, start, packed)


def _sample_product(paths: Mapping[str, Location], rule: CodeRule, *z: Array) -> Matrix:
    """Compute Tᵀ sign(T) (l, l) from the scores T (m, l) of the m sampled rows.

    ``paths`` has, for each modality, the array of the sampled rows' features. The concatenated
    arrays ``z`` are Z V at the sampled rows.
    """
    features = {g: arrays.read_rows(path).astype(np.float64) for g, path in paths.items()}
    scores = code_scores(rule, features, rule.embedding(np.concatenate(z)))
    return np.asarray(scores.T @ sign_codes(scores).astype(np.float64))


def _join_columns(*groups: Array) -> Array:
    return np.concatenate(groups, axis=1)
