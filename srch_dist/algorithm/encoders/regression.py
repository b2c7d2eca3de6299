"""Encoders of rows that were not trained on, fitted to learned codes by sums over rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from srch_dist.algorithm.features.reader import read_tiles
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import Anchors
from srch_dist.kernels.anchors import (
    AnchorSums,
    AnchorTargets,
    anchor_bandwidth,
    anchor_encoder,
    anchor_tiles,
    tile_sums,
    tile_targets,
)
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.projections import procrustes, ridge_encoder
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory


@dataclass(frozen=True)
class AnchorRows:
    """The anchors of a modality, whatever the codes.

    Attributes
    ----------
    rows : (m, d_g) normalised features. bandwidth : δ². sums : over the training rows.
    """

    rows: Matrix
    bandwidth: float
    sums: AnchorSums


@dataclass(frozen=True)
class _AnchorPart(Sized):
    """Both kinds of sums over some rows."""

    sums: AnchorSums
    targets: AnchorTargets

    def __add__(self, other: _AnchorPart) -> _AnchorPart:
        return _AnchorPart(self.sums + other.sums, self.targets + other.targets)


@dataclass(frozen=True)
class Encoders:
    """Projections (l, d_g) by modality, and what anchors add to them, as in `Model`."""

    linear: Mapping[str, Matrix]
    anchors: Mapping[str, Anchors]


@dataclass(frozen=True)
class Targets:
    """Sums over rows of codes B: ``cross_covariance`` X_g B' (d_g, l), and those of anchors."""

    cross_covariance: Mapping[str, Matrix]
    anchors: Mapping[str, AnchorTargets]


def load_anchors(
    run: RunDirectory, plan: Plan, modalities: tuple[str, ...], codes: Path, stage: ProgressStage
) -> tuple[dict[str, AnchorRows], dict[str, AnchorTargets]]:
    """The sampled rows as anchors, and their sums with the packed ``codes``: one pass over X."""
    anchors, targets = {}, {}
    for g in modalities:
        rows = arrays.read_rows(run.sample(g)).astype(np.float64)
        width = anchor_bandwidth(rows)
        calls = [
            (_sums, run, g, span, plan.partition_rows, width, codes) for span in plan.encoded_spans
        ]
        found: _AnchorPart = tasks.run_sum(calls, stage)
        anchors[g] = AnchorRows(rows, width, found.sums)
        targets[g] = found.targets
    return anchors, targets


def fit_encoders(
    statistics: Statistics,
    n: int,
    targets: Targets,
    anchors: Mapping[str, AnchorRows],
    config: TrainConfig,
) -> Encoders:
    """Encoders of ``config.method.encoder`` for codes of n rows given by their ``targets``."""
    method, grams = config.method, statistics.grams
    if method.encoder == "projection":
        return Encoders({g: procrustes(m) for g, m in targets.cross_covariance.items()}, {})
    if method.encoder == "ridge":
        linear = {
            g: ridge_encoder(grams[g, g], matrix, method.ridge)
            for g, matrix in targets.cross_covariance.items()
        }
        return Encoders(linear, {})
    linear, fitted = {}, {}
    for g, known in anchors.items():
        cross, similarities = targets.cross_covariance[g], targets.anchors[g]
        linear[g], on_anchors, offset = anchor_encoder(
            known.sums, similarities, grams[g, g], cross, n, method.ridge
        )
        fitted[g] = Anchors(known.rows, on_anchors, offset, known.bandwidth)
    return Encoders(linear, fitted)


def _sums(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    partition_rows: int,
    bandwidth: float,
    codes: Path,
) -> _AnchorPart:
    """The sums of one span of rows, a tile at a time."""
    anchors = arrays.read_rows(run.sample(modality))

    def tiles() -> Iterator[_AnchorPart]:
        for start, blocks in read_tiles(run, (modality,), span, partition_rows):
            features = blocks[modality]
            signs = unpack_codes(arrays.read_rows(codes, start, start + len(features)))
            for rows, tile, near in anchor_tiles(features, anchors, bandwidth):
                yield _AnchorPart(tile_sums(tile, near), tile_targets(near, signs[rows]))

    return reduce(add, tiles())
