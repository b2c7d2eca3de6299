"""From learned codes to the codes and the model of a run."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srch_dist.algorithm import Learned
from srch_dist.condensing import condense_codes, restore_codes
from srch_dist.config import TrainConfig, to_dict
from srch_dist.encoders import (
    AnchorRows,
    Targets,
    anchor_products,
    fit_encoders,
    load_anchors,
)
from srch_dist.kernels.projections import procrustes
from srch_dist.planning import Plan
from srch_dist.preparation import Statistics
from srch_dist.storage.features import FeatureStore
from srch_dist.storage.model import Model, save_model
from srch_dist.storage.run import Matrices, RunDirectory

_PACKAGES = ("srch-dist", "numpy", "scipy", "dask", "zarr", "pynndescent")


def finish_codes(
    run: RunDirectory,
    plan: Plan,
    learned: Learned,
    statistics: Statistics,
    weights: Mapping[str, float],
    store: FeatureStore,
    config: TrainConfig,
) -> tuple[Model, dict[str, Any]]:
    """Write the run's codes and fit the model to them.

    Returns the model, and what is to be recorded of the directions that codes were spread from
    (nothing where the codes are those of the loop).

    Raises
    ------
    SrchError : the codes collapse.
    """
    anchors: dict[str, AnchorRows] = {}
    if config.method.encoder == "anchors":
        anchors = load_anchors(run, plan, tuple(learned.cross_covariance))

    def fit(cross_covariance: Matrices, codes: Path, bits: int) -> Model:
        targets = Targets(cross_covariance, anchor_products(run, plan, anchors, codes))
        return _fit_model(targets, anchors, statistics, plan.rows, bits, store, config)

    in_loop = run.checkpoint(learned.iteration, "codes")
    model = fit(learned.cross_covariance, in_loop, config.loop_bits)
    if not config.method.directions:
        restore_codes(run, plan, in_loop, config.bits)
        return model, {}
    save_model(run.loop_model, model)
    condensed = condense_codes(run, plan, in_loop, weights, config)
    record = dataclasses.asdict(condensed)
    del record["cross_covariance"]
    restore_codes(run, plan, run.final_codes, config.bits)
    return fit(condensed.cross_covariance, run.final_codes, config.bits), record


def _fit_model(
    targets: Targets,
    anchors: Mapping[str, AnchorRows],
    statistics: Statistics,
    rows: int,
    bits: int,
    store: FeatureStore,
    config: TrainConfig,
) -> Model:
    """The model of codes, with projections by one more W-step from their X B'."""
    encoders = fit_encoders(statistics, rows, targets, anchors, config)
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
        {g: procrustes(matrix) for g, matrix in targets.cross_covariance.items()},
        encoders.linear,
        encoders.anchors,
        bits,
        options.center,
        options.unit_norm,
        metadata,
    )
