"""PCA-ITQ final codes B = sign(V R), from scores, the loop's codes and pair directions.

V (n, r) holds each row's coordinates along the r leading principal directions of two parts, which
`method.pair` weighs. The class part is made of the encoders' scores and the loop's codes. The pair
part is made of canonical directions of the features. The frame R (r, l) spreads these directions
over l bits; it is learned by iterative quantisation (Gong et al., TPAMI 2013). There are two passes
over X. The first pass sums products of both parts, which give the directions. The second pass
writes B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from srch_dist.algorithm.features.reader import read_tiles
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.config.derived import direction_count
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import score_features, score_tile
from srch_dist.errors import TrainingError
from srch_dist.kernels.anchors import AnchorTargets, tile_targets
from srch_dist.kernels.cca import pair_directions
from srch_dist.kernels.code_statistics import COLLAPSED, CodeMoments, code_moments, effective_bits
from srch_dist.kernels.features import product_sum
from srch_dist.kernels.packed_codes import pack_codes, random_codes, sign_codes, unpack_codes
from srch_dist.kernels.pca_itq import (
    Directions,
    ScoreSums,
    leading_directions,
    prefix_order,
    spreading_frame,
)
from srch_dist.kernels.rbf import TILE
from srch_dist.kernels.sampling import Stream
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix, Packed
from srch_dist.plan.run_plan import STORE_ORDER_BYTES, Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location
from srch_dist.storage.recorded_runs import record_checksums
from srch_dist.storage.run.directory import RunDirectory

# Weight of the random term in the identity's columns of the initial frame; see `_first_frame`.
_LEAST_START = 1e-3
# Ridge of the canonical directions, as a share of the mean eigenvalue of a Gram matrix.
_PAIR_RIDGE = 1.0


@dataclass(frozen=True)
class FinalCodes:
    """Measures of the final codes B, and the sums over rows from which the model is fitted.

    Attributes
    ----------
    cross_covariance : X_g Bᵀ as (d_g, l) float64, by modality.
    targets : `AnchorTargets` of B, by modality; empty without anchors.
    directions : number r of directions.
    share : share of the variance of scores and codes that the directions keep, 0 to 1.
    effective_bits : number of independent bits that hold the same information as B; see
        `kernels.code_statistics.effective_bits`.
    """

    cross_covariance: Mapping[str, Matrix]
    targets: Mapping[str, AnchorTargets]
    directions: int
    share: float
    effective_bits: float


@dataclass(frozen=True)
class _FinalSums(Sized):
    """Sums over some rows of the final codes; fields as in `FinalCodes` and `CodeMoments`."""

    cross_covariance: Mapping[str, Matrix]
    targets: Mapping[str, AnchorTargets]
    code_gram: Matrix
    bit_sums: Matrix

    def __add__(self, other: _FinalSums) -> _FinalSums:
        return _FinalSums(
            {g: part + other.cross_covariance[g] for g, part in self.cross_covariance.items()},
            {g: part + other.targets[g] for g, part in self.targets.items()},
            self.code_gram + other.code_gram,
            self.bit_sums + other.bit_sums,
        )


def make_final_codes(
    job: Job,
    loop_codes: Location,
    statistics: Statistics,
    weights: Mapping[str, float],
    stage: ProgressStage,
) -> FinalCodes:
    """Write B = sign(V R) to ``run.final_codes``, packed and in training order.

    R is learned on the run's fixed sample of rows. Learning starts from an R that expresses the
    loop's bits in the r directions. The codes therefore depend only on the subspace that the
    directions span.

    Parameters
    ----------
    loop_codes : packed codes of the loop (n, loop_bits / 8). ``run.loop_model`` is fitted to them.
    statistics : Gram matrices of the features, which give the pair directions.
    weights : weight of each modality.

    Raises
    ------
    TrainingError : the codes collapse.
    """
    run, plan, config = job.run, job.plan, job.config
    pair, count = config.method.pair, direction_count(config)
    width = count if pair > 0 else 0
    maps = pair_directions(statistics.grams, weights, plan.rows, width, _PAIR_RIDGE)
    (scorer,) = tasks.persist([tasks.task(_load_scorer, run.loop_model, loop_codes, maps)])
    spans, step = plan.encoded_spans, plan.partition_rows
    sums: ScoreSums = tasks.run_sum(
        [(_score_sums, run, scorer, span, step) for span in spans], stage
    )
    directions = leading_directions(sums, plan.rows, weights, config.loop_bits, pair, count)
    frame = _learn_frame(job, _load_scorer(run.loop_model, loop_codes, maps), directions)
    rule = tasks.as_task_input(directions.spread(frame))
    shape = (plan.rows, config.bits // 8)
    arrays.ensure_array(run.final_codes, shape, spans[0][1], np.uint8)
    spreads = [(_spread_span, run, scorer, rule, span, step) for span in spans]
    total: _FinalSums = tasks.run_sum(spreads, stage)
    worth = effective_bits(total.code_gram, total.bit_sums, plan.rows)
    if worth < COLLAPSED:
        raise TrainingError(
            f"the final codes collapsed: {config.bits} bits, made from {len(directions.offset)} "
            f"directions, are equivalent to {worth:.2f} independent bits, expected at least "
            f"{COLLAPSED}. The encoders hardly distinguish rows: check the features, or set "
            "method.directions to 0."
        )
    return FinalCodes(
        total.cross_covariance, total.targets, len(directions.offset), directions.share, worth
    )


def write_store_order(job: Job, source: Location, stage: ProgressStage) -> CodeMoments:
    """Copy packed codes from ``source`` (training order) to ``run.codes`` (order of the store).

    Returns
    -------
    Gram matrix and bit sums of the codes; see `CodeMoments`.
    """
    run, plan, bits = job.run, job.plan, job.config.bits
    attributes = {"bits": bits, "bitorder": "little", "rows": run.rows.name}
    # Each task reads codes from everywhere in the training order, so few large tasks are faster.
    step = store_order_rows(plan, bits)
    arrays.remove(run.codes)
    arrays.create_array(run.codes, (plan.rows, bits // 8), step, np.uint8, attributes)
    calls = [
        (_reorder_codes, run, source, start, min(start + step, plan.rows))
        for start in range(0, plan.rows, step)
    ]
    stored: _StoredCodes = tasks.run_sum(calls, stage)
    record_checksums(run.codes, step, [stored.checksums[start] for _, _, _, start, _ in calls])
    return stored.moments


def store_order_rows(plan: Plan, bits: int) -> int:
    """Return the number of rows whose codes one task of `write_store_order` writes."""
    return max(plan.partition_rows, STORE_ORDER_BYTES // (bits // 8))


def _learn_frame(job: Job, scorer: _Scorer, directions: Directions) -> Matrix:
    """Learn the frame R (r, l) on the sampled rows; its first columns are a good shorter code."""
    run, config, model = job.run, job.config, scorer.model
    features = {g: arrays.read_rows(run.sample(g)).astype(np.float64) for g in directions.mix}
    scores = {g: score_features(model, g, block) for g, block in features.items()}
    rows = arrays.read_rows(run.sample("rows"))
    codes = unpack_codes(arrays.read_selected(scorer.loop_codes, rows)).astype(np.float64)
    loop_bits = codes.shape[1]
    start = _first_frame(loop_bits, config.bits, config.seed)
    beside = _first_pair_frame(scorer.maps, config.bits, config.seed)
    basis = directions.basis
    values = directions.mixed(scores, codes, scorer.pairs(features))
    frame = spreading_frame(values, basis.T @ np.concatenate([start, beside]))
    return frame[:, prefix_order(sign_codes(values @ frame).astype(np.float64), values)]


def _first_frame(loop_bits: int, bits: int, seed: int) -> Matrix:
    """Make the initial frame (loop_bits, bits): identity columns, then random columns.

    The frame spreads directions over bits. If bits of the loop were linearly dependent, the learned
    frame would depend on rounding errors. A small random term in the identity's columns prevents
    such a dependence.
    """
    rows = np.arange(loop_bits)
    random = random_codes(seed ^ Stream.FINAL_FRAME, rows, bits).astype(np.float64)
    random[:, :loop_bits] *= _LEAST_START
    random[:, loop_bits:] /= np.sqrt(loop_bits)
    return np.eye(loop_bits, bits) + random


def _first_pair_frame(maps: Mapping[str, Matrix], bits: int, seed: int) -> Matrix:
    """Make the rows (k, bits) of the initial frame that belong to the pair directions.

    They are random projections of the features, expressed in the pair directions A_g. The bits
    therefore do not depend on the signs of canonical directions, which rounding may change.
    """
    joined = np.concatenate(list(maps.values()))
    random = random_codes(seed ^ Stream.PAIR_FRAME, np.arange(len(joined)), bits)
    total = joined.T @ random
    length = np.linalg.norm(total)
    frame: Matrix = total * (np.sqrt(bits) / length if length > 0 else 0.0)
    return frame


@dataclass(frozen=True)
class _Scorer(Sized):
    """What both passes need to compute scores, codes and pair directions of a row.

    Attributes
    ----------
    model : encoders fitted to the loop's codes.
    loop_codes : packed codes of the loop, in training order.
    maps : (d_g, k) maps to the pair directions, by modality; k is 0 without them.
    """

    model: Model
    loop_codes: Location
    maps: Mapping[str, Matrix]

    def pairs(self, features: Mapping[str, Array]) -> Matrix:
        """Compute the pair directions (t, k) of features (t, d_g), in their dtype."""
        parts = [x @ self.maps[g].astype(x.dtype, copy=False) for g, x in features.items()]
        total: Matrix = reduce(add, parts)
        return total


def _load_scorer(model: Location, loop_codes: Location, maps: Mapping[str, Matrix]) -> _Scorer:
    return _Scorer(load_model(model), loop_codes, maps)


@dataclass(frozen=True)
class _Tile:
    """Codes, features, scores, pair directions and similarities of t rows, t ≤ `TILE`.

    Attributes
    ----------
    codes : (t, loop_bits) ±1 codes of the loop.
    features : (t, d_g) by modality.
    scores : (t, loop_bits) by modality.
    similarities : (t, m) similarities to the m anchors, by modality; empty without anchors.
    pairs : (t, k) pair directions.
    """

    codes: Array
    features: dict[str, Array]
    scores: dict[str, Array]
    similarities: dict[str, Array]
    pairs: Array


def _score_tiles(
    run: RunDirectory, scorer: _Scorer, span: tuple[int, int], partition_rows: int
) -> Iterator[_Tile]:
    """Yield the `_Tile`s of the rows ``span``, with scores in the precision of the features.

    Row numbers alone decide which rows form a tile. The products of a tile therefore round the same
    way with every partitioning.
    """
    model = scorer.model
    for first, blocks in read_tiles(run, tuple(model.means), span, partition_rows):
        rows = len(next(iter(blocks.values())))
        codes = arrays.read_rows(scorer.loop_codes, first, first + rows)
        for start in range(0, rows, TILE):
            part = slice(start, start + TILE)
            features = {g: block[part] for g, block in blocks.items()}
            signs = unpack_codes(codes[part]).astype(np.float64)
            tile = _Tile(signs, features, {}, {}, scorer.pairs(features))
            for g, block in features.items():
                tile.scores[g], similarities = score_tile(model, g, block)
                if similarities is not None:
                    tile.similarities[g] = similarities
            yield tile


def _score_sums(
    run: RunDirectory, scorer: _Scorer, span: tuple[int, int], partition_rows: int
) -> ScoreSums:
    def sums_of(tile: _Tile) -> ScoreSums:
        parts = [*tile.scores.values(), tile.codes, tile.pairs]
        joined = np.concatenate(parts, axis=1).astype(np.float64)
        return ScoreSums(joined.sum(axis=0), joined.T @ joined)

    return reduce(add, map(sums_of, _score_tiles(run, scorer, span, partition_rows)))


def _spread_span(
    run: RunDirectory,
    scorer: _Scorer,
    rule: Directions,
    span: tuple[int, int],
    partition_rows: int,
) -> _FinalSums:
    """Compute and write the final codes of the rows ``span``; return the sums over these rows.

    ``rule`` maps scores, loop codes and pair directions to V R.
    """
    packed: list[Packed] = []

    def sums_of(tile: _Tile) -> _FinalSums:
        codes = sign_codes(rule.mixed(tile.scores, tile.codes, tile.pairs))
        packed.append(pack_codes(codes))
        dense = codes.astype(np.float64)
        return _FinalSums(
            {g: product_sum(block, codes) for g, block in tile.features.items()},
            {g: tile_targets(near, codes) for g, near in tile.similarities.items()},
            dense.T @ dense,
            dense.sum(axis=0),
        )

    tiles = _score_tiles(run, scorer, span, partition_rows)
    total = reduce(add, map(sums_of, tiles))
    arrays.write_rows(run.final_codes, span[0], np.concatenate(packed))
    return total


@dataclass(frozen=True)
class _StoredCodes(Sized):
    """Moments of stored codes, and the `arrays.checksum` of each block by its first row."""

    moments: CodeMoments
    checksums: Mapping[int, int]

    def __add__(self, other: _StoredCodes) -> _StoredCodes:
        return _StoredCodes(self.moments + other.moments, {**self.checksums, **other.checksums})


def _reorder_codes(run: RunDirectory, source: Location, start: int, stop: int) -> _StoredCodes:
    """Copy the packed codes of some rows from training order to store order.

    ``source`` is in training order. The rows are ``start`` … ``stop`` - 1 of ``run.codes``, which
    is in store order.
    """
    order = arrays.read_rows(run.order)
    positions = np.flatnonzero((order >= start) & (order < stop))
    codes = arrays.read_selected(source, positions)
    reordered = np.empty_like(codes)
    reordered[order[positions] - start] = codes
    checksum = arrays.write_rows(run.codes, start, reordered)
    return _StoredCodes(code_moments(reordered), {start: checksum})
