"""Fit the out-of-sample encoders to the learned codes, from sums over the training rows.

``method.encoder`` selects the encoder: "projection" (Eq. 18), "ridge" (ridge regression on the
features), or "anchors" (ridge regression on the features and on Gaussian similarities to anchors).
Anchors are sampled training rows.
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
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location
from srch_dist.storage.run.directory import RunDirectory


@dataclass(frozen=True)
class AnchorRows:
    """The m anchors of a modality, and sums over all training rows. No sum contains codes.

    Attributes
    ----------
    rows : (m, d_g) normalised features of the anchors.
    bandwidth : δ² of the Gaussian similarities.
    sums : features, similarities and their products, summed over all training rows.
    """

    rows: Matrix
    bandwidth: float
    sums: AnchorSums


@dataclass(frozen=True)
class _AnchorPart(Sized):
    """Sums over rows of one modality: `AnchorSums`, which need no codes, and `AnchorTargets`."""

    sums: AnchorSums
    targets: AnchorTargets

    def __add__(self, other: _AnchorPart) -> _AnchorPart:
        return _AnchorPart(self.sums + other.sums, self.targets + other.targets)


@dataclass(frozen=True)
class Encoders:
    """Fitted encoders by modality: weights (l, d_g) of the features, and `Anchors` if used."""

    linear: Mapping[str, Matrix]
    anchors: Mapping[str, Anchors]


@dataclass(frozen=True)
class Targets:
    """Products with the codes B, summed over all rows. The encoders are fitted from these sums.

    Attributes
    ----------
    cross_covariance : X_g Bᵀ as (d_g, l) float64, by modality.
    anchors : `AnchorTargets` of B, by modality; empty without anchors.
    """

    cross_covariance: Mapping[str, Matrix]
    anchors: Mapping[str, AnchorTargets]


def prepare_anchors(
    job: Job, codes: Location, stage: ProgressStage
) -> tuple[dict[str, AnchorRows], dict[str, AnchorTargets]]:
    """Use the run's sampled rows as anchors, and compute the sums from which encoders are fitted.

    K_g (n, m) are the similarities of all n rows to the m anchors of modality g. With X_g and B
    as (n, d_g) and (n, l), one pass over X_g computes X_gᵀ K_g, K_gᵀ K_g and K_gᵀ B.

    Parameters
    ----------
    codes : packed codes B (n, l / 8) in training order.

    Returns
    -------
    Two mappings by modality. The first has the anchors and the sums that do not contain B; the
    second has the sums that contain B.
    """
    run, plan = job.run, job.plan
    anchors, targets = {}, {}
    for g in job.modalities:
        rows = arrays.read_rows(run.sample(g)).astype(np.float64)
        bandwidth = anchor_bandwidth(rows)
        calls = [
            (_anchor_sums, run, g, span, plan.partition_rows, bandwidth, codes)
            for span in plan.encoded_spans
        ]
        total: _AnchorPart = tasks.run_sum(calls, stage)
        anchors[g] = AnchorRows(rows, bandwidth, total.sums)
        targets[g] = total.targets
    return anchors, targets


def fit_encoders(
    job: Job, statistics: Statistics, anchors: Mapping[str, AnchorRows], targets: Targets
) -> Encoders:
    """Fit the encoders from sums, without a pass over the features; see ``method.encoder``.

    ``anchors`` is from `prepare_anchors`. ``targets`` has the products with the codes B that the
    encoders predict.
    """
    method, grams = job.config.method, statistics.grams
    if method.encoder == "projection":
        return Encoders({g: procrustes(m) for g, m in targets.cross_covariance.items()}, {})
    if method.encoder == "ridge":
        linear = {
            g: ridge_encoder(grams[g, g], matrix, method.ridge)
            for g, matrix in targets.cross_covariance.items()
        }
        return Encoders(linear, {})
    linear, fitted = {}, {}
    for g, anchor in anchors.items():
        cross, similarities = targets.cross_covariance[g], targets.anchors[g]
        linear[g], encoder, offset = anchor_encoder(
            anchor.sums, similarities, grams[g, g], cross, job.plan.rows, method.ridge
        )
        fitted[g] = Anchors(anchor.rows, encoder, offset, anchor.bandwidth)
    return Encoders(linear, fitted)


def _anchor_sums(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    partition_rows: int,
    bandwidth: float,
    codes: Location,
) -> _AnchorPart:
    """Compute the sums of `prepare_anchors` for one modality over the rows ``span``.

    ``bandwidth`` is δ². ``codes`` is the path of the array of packed codes B.
    """
    anchors = arrays.read_rows(run.sample(modality))

    def parts() -> Iterator[_AnchorPart]:
        for start, blocks in read_tiles(run, (modality,), span, partition_rows):
            features = blocks[modality]
            signs = unpack_codes(arrays.read_rows(codes, start, start + len(features)))
            for rows, tile, near in anchor_tiles(features, anchors, bandwidth):
                yield _AnchorPart(tile_sums(tile, near), tile_targets(near, signs[rows]))

    return reduce(add, parts())
