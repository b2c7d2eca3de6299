"""From learned codes to the codes and the model of a run."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from srch_dist.algorithm.encoders.final_codes import (
    Condensed,
    condense_codes,
    restore_codes,
    restored_rows,
)
from srch_dist.algorithm.encoders.regression import AnchorRows, Targets, fit_encoders, load_anchors
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.loop import Learned
from srch_dist.config.identity import to_dict
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import Model, save_model
from srch_dist.kernels.anchors import AnchorTargets
from srch_dist.kernels.code_statistics import CodeMoments, bit_correlations
from srch_dist.kernels.projections import procrustes
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.stages import StageLog, StageRecord

_PACKAGES = ("srch-dist", "numpy", "scipy", "dask", "zarr", "pynndescent")


def finish_codes(
    run: RunDirectory,
    plan: Plan,
    learned: Learned,
    statistics: Statistics,
    weights: Mapping[str, float],
    store: FeatureStore,
    config: TrainConfig,
    progress: Progress,
) -> tuple[Model, dict[str, Any]]:
    """Write the run's codes and fit the model to them.

    Returns the model, and what is to be recorded of the directions that codes were spread from
    (nothing where the codes are those of the loop).

    Raises
    ------
    TrainingError : the codes collapse.
    """
    modalities = tuple(learned.cross_covariance)
    in_loop = run.checkpoint(learned.iteration, "codes")
    with progress.stage("model", _model_tasks(plan, modalities, config)) as stage:
        anchors: dict[str, AnchorRows] = {}
        targets: Mapping[str, AnchorTargets] = {}
        if config.method.encoder == "anchors":
            anchors, targets = load_anchors(run, plan, modalities, in_loop, stage)

        def fit(sums: Targets, bits: int) -> Model:
            return _fit_model(sums, anchors, statistics, plan.rows, bits, store, config)

        def fit_loop() -> Model:
            return fit(Targets(learned.cross_covariance, targets), config.loop_bits)

        if not config.method.directions:
            moments = restore_codes(run, plan, in_loop, config.bits, stage)
            run.write_bits(*_bit_figures(moments, plan.rows))
            return fit_loop(), {}
        stages = run.stages(config)
        if (record := stages.find("condensed")) is None:
            save_model(run.loop_model, fit_loop())
            condensed = condense_codes(run, plan, in_loop, weights, config, stage)
            record = _commit_condensed(stages, condensed)
        moments = restore_codes(run, plan, run.final_codes, config.bits, stage)
        run.write_bits(*_bit_figures(moments, plan.rows))
        return fit(_recorded_targets(record, modalities), config.bits), dict(record.values)


def _bit_figures(moments: CodeMoments, rows: int) -> tuple[Matrix, Matrix]:
    """Mean of each bit (l,), and the correlations (l, l) of the bits."""
    gram, sums = moments.code_gram, moments.bit_sums
    return sums / rows, bit_correlations(gram, sums, rows)


def _commit_condensed(stages: StageLog, condensed: Condensed) -> StageRecord:
    """Record the final codes as written, with what the model needs of them."""
    values = {name: getattr(condensed, name) for name in ("directions", "share", "effective_bits")}
    found = {f"cross/{g}": matrix for g, matrix in condensed.cross_covariance.items()}
    for g, targets in condensed.targets.items():
        found |= {f"{name}/{g}": values for name, values in vars(targets).items()}
    return stages.commit("condensed", values, found)


def _recorded_targets(record: StageRecord, modalities: tuple[str, ...]) -> Targets:
    """What `_commit_condensed` recorded, as the encoders are fitted to it."""
    found = record.arrays
    return Targets(
        {g: found[f"cross/{g}"] for g in modalities},
        {
            g: AnchorTargets(found[f"codes/{g}"], found[f"similarities/{g}"])
            for g in modalities
            if f"codes/{g}" in found
        },
    )


def _model_tasks(plan: Plan, modalities: tuple[str, ...], config: TrainConfig) -> int:
    """Steps of the stage: the passes of `load_anchors` and `condense_codes`, and the order."""
    passes = len(modalities) if config.method.encoder == "anchors" else 0
    sums = passes + (2 if config.method.directions else 0)
    # Each sum is a step of its own beside those of its parts.
    restored = -(-plan.rows // restored_rows(plan, config.bits))
    return sums * (len(plan.encoded_spans) + 1) + restored + 1


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
