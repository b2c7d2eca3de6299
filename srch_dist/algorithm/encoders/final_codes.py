"""From the bits of the loop to those asked for: leading directions of what it learned, spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from srch_dist.algorithm.features.reader import read_tiles
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import score_features, score_tile
from srch_dist.errors import TrainingError
from srch_dist.kernels.anchors import AnchorTargets, tile_targets
from srch_dist.kernels.code_statistics import COLLAPSED, CodeMoments, code_moments, effective_bits
from srch_dist.kernels.features import product_sum
from srch_dist.kernels.packed_codes import pack_codes, random_codes, sign_codes, unpack_codes
from srch_dist.kernels.pca_itq import Directions, ScoreSums, leading_directions, spreading_frame
from srch_dist.kernels.rbf import TILE
from srch_dist.kernels.sampling import Stream
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix, Packed
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

_LEAST_START = 1e-3
# Codes that a task brings back into the order of the store.
_CODE_BYTES = 32 << 20


@dataclass(frozen=True)
class Condensed:
    """The final codes, written to ``run.final_codes``.

    Attributes
    ----------
    cross_covariance : X_g B' (d_g, l). targets : sums of the anchors with B, if there are any.
    directions : number of directions that the codes were spread from.
    share : of the variance of the scores that these keep.
    effective_bits : see `kernels.codes.effective_bits`.
    """

    cross_covariance: Mapping[str, Matrix]
    targets: Mapping[str, AnchorTargets]
    directions: int
    share: float
    effective_bits: float


@dataclass(frozen=True)
class _Spread(Sized):
    """Sums over rows of the final codes."""

    cross_covariance: Mapping[str, Matrix]
    targets: Mapping[str, AnchorTargets]
    code_gram: Matrix
    bit_sums: Matrix

    def __add__(self, other: _Spread) -> _Spread:
        return _Spread(
            {g: part + other.cross_covariance[g] for g, part in self.cross_covariance.items()},
            {g: part + other.targets[g] for g, part in self.targets.items()},
            self.code_gram + other.code_gram,
            self.bit_sums + other.bit_sums,
        )


def restore_codes(
    run: RunDirectory, plan: Plan, source: Path, bits: int, stage: ProgressStage
) -> CodeMoments:
    """Write packed codes (n, bits / 8) in training order to ``run.codes``, in that of ``rows``."""
    attributes = {"bits": bits, "bitorder": "little", "rows": run.rows.name}
    shape = (plan.rows, bits // 8)
    # Each task reads codes from all over the training order, so there are few.
    step = restored_rows(plan, bits)
    arrays.remove(run.codes)
    arrays.create_array(run.codes, shape, step, np.uint8, attributes)
    calls = [
        (_restore_codes, run, source, start, min(start + step, plan.rows))
        for start in range(0, plan.rows, step)
    ]
    moments: CodeMoments = tasks.run_sum(calls, stage)
    return moments


def restored_rows(plan: Plan, bits: int) -> int:
    """Rows whose codes one task brings back into the order of the store."""
    return max(plan.partition_rows, _CODE_BYTES // (bits // 8))


def condense_codes(
    run: RunDirectory,
    plan: Plan,
    in_loop: Path,
    weights: Mapping[str, float],
    config: TrainConfig,
    stage: ProgressStage,
) -> Condensed:
    """B = sign(V R): V the leading directions of scores and codes of the loop, R a learned frame.

    The codes are in ``in_loop``, packed and in training order; the scores are those of the model
    in ``run.loop_model``, fitted to them. Two passes over X. R is learned on the run's fixed sample
    of rows. Codes depend on the span of the directions alone: R starts from the bits of the loop
    seen in their basis.

    Raises
    ------
    TrainingError : the codes collapse.
    """
    (model,) = tasks.persist([tasks.task(load_model, run.loop_model)])
    spans, step = plan.encoded_spans, plan.partition_rows
    calls = [(_score_sums, run, model, in_loop, span, step) for span in spans]
    sums: ScoreSums = tasks.run_sum(calls, stage)
    count = min(config.method.directions, config.bits)
    directions = leading_directions(sums, plan.rows, weights, count)
    frame = _learn_frame(run, in_loop, directions, config)
    rule = tasks.as_task_input(directions.spread(frame))
    shape = (plan.rows, config.bits // 8)
    arrays.ensure_array(run.final_codes, shape, spans[0][1], np.uint8)
    spreads = [(_spread_span, run, model, in_loop, rule, span, step) for span in spans]
    spread: _Spread = tasks.run_sum(spreads, stage)
    worth = effective_bits(spread.code_gram, spread.bit_sums, plan.rows)
    if worth < COLLAPSED:
        raise TrainingError(
            f"the codes collapsed when they were spread from {len(directions.offset)} directions: "
            f"{config.bits} bits are worth {worth:.2f} independent ones; the encoders tell next "
            "to nothing apart, so look at the features, or set method.directions to 0"
        )
    return Condensed(
        spread.cross_covariance,
        spread.targets,
        len(directions.offset),
        directions.share,
        worth,
    )


def _learn_frame(
    run: RunDirectory, in_loop: Path, directions: Directions, config: TrainConfig
) -> Matrix:
    model = load_model(run.loop_model)
    features = {g: arrays.read_rows(run.sample(g)).astype(np.float64) for g in directions.mix}
    scores = {g: score_features(model, g, block) for g, block in features.items()}
    rows = arrays.read_rows(run.sample("rows"))
    codes = unpack_codes(arrays.read_selected(in_loop, rows)).astype(np.float64)
    start = _first_frame(len(directions.basis), config.bits, config.seed)
    return spreading_frame(directions.mixed(scores, codes), directions.basis.T @ start)


def _first_frame(loop_bits: int, bits: int, seed: int) -> Matrix:
    """Where R starts, (loop_bits, bits): the bits of the loop, and random ones beyond them.

    A trace of random bits in all of them, since bits of the loop may depend on each other, and
    what they lack would be settled by rounding.
    """
    rows = np.arange(loop_bits)
    random = random_codes(seed ^ Stream.FINAL_FRAME, rows, bits).astype(np.float64)
    random[:, :loop_bits] *= _LEAST_START
    random[:, loop_bits:] /= np.sqrt(loop_bits)
    return np.eye(loop_bits, bits) + random


@dataclass(frozen=True)
class _Tile:
    """Some rows: the loop's codes; features, scores and similarities to anchors by modality."""

    codes: Array
    features: dict[str, Array]
    scores: dict[str, Array]
    near: dict[str, Array]


def _score_tiles(
    run: RunDirectory, model: Model, in_loop: Path, span: tuple[int, int], partition_rows: int
) -> Iterator[_Tile]:
    """The tiles of a span of rows, in the precision of the features.

    A tile's products round in one way for every partitioning: its rows follow from their number.
    """
    for first, blocks in read_tiles(run, tuple(model.means), span, partition_rows):
        rows = len(next(iter(blocks.values())))
        codes = arrays.read_rows(in_loop, first, first + rows)
        for start in range(0, rows, TILE):
            part = slice(start, start + TILE)
            features = {g: block[part] for g, block in blocks.items()}
            tile = _Tile(unpack_codes(codes[part]).astype(np.float64), features, {}, {})
            for g, block in features.items():
                tile.scores[g], near = score_tile(model, g, block)
                if near is not None:
                    tile.near[g] = near
            yield tile


def _score_sums(
    run: RunDirectory, model: Model, in_loop: Path, span: tuple[int, int], partition_rows: int
) -> ScoreSums:
    def tile_sums(tile: _Tile) -> ScoreSums:
        beside = np.concatenate([*tile.scores.values(), tile.codes], axis=1).astype(np.float64)
        return ScoreSums(beside.sum(axis=0), beside.T @ beside)

    return reduce(add, map(tile_sums, _score_tiles(run, model, in_loop, span, partition_rows)))


def _spread_span(
    run: RunDirectory,
    model: Model,
    in_loop: Path,
    rule: Directions,
    span: tuple[int, int],
    partition_rows: int,
) -> _Spread:
    packed: list[Packed] = []

    def tile_sums(tile: _Tile) -> _Spread:
        codes = sign_codes(rule.mixed(tile.scores, tile.codes))
        packed.append(pack_codes(codes))
        dense = codes.astype(np.float64)
        return _Spread(
            {g: product_sum(block, codes) for g, block in tile.features.items()},
            {g: tile_targets(near, codes) for g, near in tile.near.items()},
            dense.T @ dense,
            dense.sum(axis=0),
        )

    tiles = _score_tiles(run, model, in_loop, span, partition_rows)
    total = reduce(add, map(tile_sums, tiles))
    arrays.write_rows(run.final_codes, span[0], np.concatenate(packed))
    return total


def _restore_codes(run: RunDirectory, source: Path, start: int, stop: int) -> CodeMoments:
    order = arrays.read_rows(run.order)
    positions = np.flatnonzero((order >= start) & (order < stop))
    codes = arrays.read_selected(source, positions)
    restored = np.empty_like(codes)
    restored[order[positions] - start] = codes
    arrays.write_rows(run.codes, start, restored)
    return code_moments(restored)
