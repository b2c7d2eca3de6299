"""From learned codes to a model: the last W-step and the encoder of rows not trained on."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.algorithm import Learned
from srch_dist.config import TrainConfig, to_dict
from srch_dist.kernels.anchors import AnchorSums, anchor_bandwidth, anchor_encoder, anchor_sums
from srch_dist.kernels.bits import unpack_codes
from srch_dist.kernels.projections import procrustes, ridge_encoder
from srch_dist.planning import Plan
from srch_dist.preparation import Statistics
from srch_dist.storage import arrays
from srch_dist.storage.features import FeatureStore
from srch_dist.storage.model import Anchors, Model
from srch_dist.storage.run import RunDirectory

Matrix = NDArray[np.float64]
_PACKAGES = ("srch-dist", "numpy", "scipy", "dask", "zarr", "pynndescent")


def fit_model(
    run: RunDirectory,
    plan: Plan,
    learned: Learned,
    statistics: Statistics,
    store: FeatureStore,
    config: TrainConfig,
) -> Model:
    """Projections by one more W-step from the final X B', and the encoder of ``config``.

    The anchor encoder reads the features once more; the others need no pass.
    """
    projections = {g: procrustes(matrix) for g, matrix in learned.cross_covariance.items()}
    encoders: Mapping[str, Matrix] = projections
    anchors: dict[str, Anchors] = {}
    if config.method.encoder == "ridge":
        encoders = {
            g: ridge_encoder(statistics.grams[g, g], matrix, config.method.ridge)
            for g, matrix in learned.cross_covariance.items()
        }
    elif config.method.encoder == "anchors":
        fitted = {g: _fit_anchors(run, plan, g, learned, statistics, config) for g in projections}
        encoders = {g: linear for g, (linear, _) in fitted.items()}
        anchors = {g: part for g, (_, part) in fitted.items()}
    metadata = {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "config": to_dict(config),
        "store": {"rows": store.rows, "modalities": dict(store.modalities)},
    }
    options = config.features
    return Model(
        statistics.means,
        projections,
        encoders,
        anchors,
        config.bits,
        options.center,
        options.unit_norm,
        metadata,
    )


def _fit_anchors(
    run: RunDirectory,
    plan: Plan,
    modality: str,
    learned: Learned,
    statistics: Statistics,
    config: TrainConfig,
) -> tuple[Matrix, Anchors]:
    """The part of the encoder on features (l, d), and that on similarities to anchors."""
    rows = arrays.read_rows(run.sample(modality)).astype(np.float64)
    bandwidth = anchor_bandwidth(rows)
    parts = [
        execution.task(_partition_sums, run, modality, plan.span(p), bandwidth, learned.iteration)
        for p in plan.partitions
    ]
    sums: AnchorSums = execution.run_one(execution.add_up(parts))
    linear, on_anchors, offset = anchor_encoder(
        sums,
        statistics.grams[modality, modality],
        learned.cross_covariance[modality],
        plan.rows,
        config.method.ridge,
    )
    return linear, Anchors(rows, on_anchors, offset, bandwidth)


def _partition_sums(
    run: RunDirectory, modality: str, span: tuple[int, int], bandwidth: float, iteration: int
) -> AnchorSums:
    features = arrays.read_rows(run.features(modality), *span)
    anchors = arrays.read_rows(run.sample(modality))
    codes = unpack_codes(arrays.read_rows(run.checkpoint(iteration, "codes"), *span))
    return anchor_sums(features, anchors, bandwidth, codes)
