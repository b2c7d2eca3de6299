"""Encoders of rows that were not trained on, fitted to learned codes by sums over rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.config import TrainConfig
from srch_dist.kernels.anchors import (
    AnchorSums,
    AnchorTargets,
    anchor_bandwidth,
    anchor_encoder,
    anchor_sums,
    anchor_targets,
)
from srch_dist.kernels.bits import unpack_codes
from srch_dist.kernels.projections import procrustes, ridge_encoder
from srch_dist.planning import Plan
from srch_dist.preparation import Statistics
from srch_dist.storage import arrays
from srch_dist.storage.model import Anchors
from srch_dist.storage.run import RunDirectory

Matrix = NDArray[np.float64]


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
    run: RunDirectory, plan: Plan, modalities: tuple[str, ...]
) -> dict[str, AnchorRows]:
    """The sampled rows as anchors, with their sums over the training rows: one pass over X."""
    anchors = {}
    for g in modalities:
        rows = arrays.read_rows(run.sample(g)).astype(np.float64)
        width = anchor_bandwidth(rows)
        parts = [execution.task(_sums, run, g, plan.span(p), width) for p in plan.partitions]
        anchors[g] = AnchorRows(rows, width, execution.run_one(execution.add_up(parts)))
    return anchors


def anchor_products(
    run: RunDirectory, plan: Plan, anchors: Mapping[str, AnchorRows], codes: Path
) -> dict[str, AnchorTargets]:
    """Sums of the anchors' similarities with the packed ``codes``: one pass over X."""
    targets = {}
    for g, known in anchors.items():
        parts = [
            execution.task(_products, run, g, plan.span(p), known.bandwidth, codes)
            for p in plan.partitions
        ]
        targets[g] = execution.run_one(execution.add_up(parts))
    return targets


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


def _sums(run: RunDirectory, modality: str, span: tuple[int, int], bandwidth: float) -> AnchorSums:
    features = arrays.read_rows(run.features(modality), *span)
    return anchor_sums(features, arrays.read_rows(run.sample(modality)), bandwidth)


def _products(
    run: RunDirectory, modality: str, span: tuple[int, int], bandwidth: float, path: Path
) -> AnchorTargets:
    features = arrays.read_rows(run.features(modality), *span)
    codes = unpack_codes(arrays.read_rows(path, *span))
    return anchor_targets(features, arrays.read_rows(run.sample(modality)), bandwidth, codes)
