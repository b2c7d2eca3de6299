"""Model stage: make the final codes from the codes of the loop, and fit the model to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from srch_dist.algorithm.checkpoints import LoopState
from srch_dist.algorithm.encoders.final_codes import (
    FinalCodes,
    make_final_codes,
    store_order_rows,
    write_store_order,
)
from srch_dist.algorithm.encoders.regression import (
    AnchorRows,
    Targets,
    fit_encoders,
    prepare_anchors,
)
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.config.identity import to_dict
from srch_dist.config.versions import current_versions
from srch_dist.encode.model import Model, save_model
from srch_dist.kernels.anchors import AnchorTargets
from srch_dist.kernels.code_statistics import bit_correlations
from srch_dist.kernels.projections import procrustes
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import Location
from srch_dist.storage.run.stages import StageLog, StageRecord


def fit_final_model(
    job: Job,
    store: FeatureStore,
    learned: LoopState,
    statistics: Statistics,
    weights: Mapping[str, float],
) -> tuple[Model, dict[str, Any]]:
    """Write the final codes to ``run.codes`` and fit the model to them.

    Parameters
    ----------
    learned : the last state of the loop.
    weights : weight of each modality.

    Returns
    -------
    The model, and measures of the final codes for the summary. With ``method.directions: 0`` the
    final codes equal the loop's codes, and the measures are empty.

    Raises
    ------
    TrainingError : the codes collapse.
    """
    run, config, stages = job.run, job.config, job.stages
    loop_codes = run.checkpoint(learned.iteration, "codes")
    with job.progress.stage("model", _model_tasks(job)) as stage:
        anchors: Mapping[str, AnchorRows] = {}
        targets: Mapping[str, AnchorTargets] = {}
        if config.method.encoder == "anchors":
            anchors, targets = prepare_anchors(job, loop_codes, stage)
        fit = partial(_fit_model, job, store, statistics, anchors)
        loop_targets = Targets(learned.cross_covariance, targets)
        if not config.method.directions:
            _write_codes(job, loop_codes, stage)
            return fit(loop_targets, config.loop_bits), {}
        if (record := stages.find("condensed")) is None:
            save_model(run.loop_model, fit(loop_targets, config.loop_bits))
            final = make_final_codes(job, loop_codes, statistics, weights, stage)
            record = _commit_final_codes(stages, final)
        _write_codes(job, run.final_codes, stage)
        return fit(_recorded_targets(record, job.modalities), config.bits), dict(record.values)


def _write_codes(job: Job, source: Location, stage: ProgressStage) -> None:
    """Copy the codes ``source`` to ``run.codes`` in store order.

    Also write the mean of each bit and the correlations of all bits.
    """
    moments = write_store_order(job, source, stage)
    gram, sums, n = moments.code_gram, moments.bit_sums, job.plan.rows
    job.run.write_bits(sums / n, bit_correlations(gram, sums, n))


def _commit_final_codes(stages: StageLog, final: FinalCodes) -> StageRecord:
    """Record the final codes as finished, with the sums to which the model is fitted."""
    values = {name: getattr(final, name) for name in ("directions", "share", "effective_bits")}
    arrays = {f"cross/{g}": matrix for g, matrix in final.cross_covariance.items()}
    for g, targets in final.targets.items():
        arrays |= {f"{name}/{g}": sums for name, sums in vars(targets).items()}
    return stages.commit("condensed", values, arrays)


def _recorded_targets(record: StageRecord, modalities: tuple[str, ...]) -> Targets:
    """Read the sums that `_commit_final_codes` recorded."""
    arrays = record.arrays
    return Targets(
        {g: arrays[f"cross/{g}"] for g in modalities},
        {
            g: AnchorTargets(arrays[f"codes/{g}"], arrays[f"similarities/{g}"])
            for g in modalities
            if f"codes/{g}" in arrays
        },
    )


def _model_tasks(job: Job) -> int:
    """Count the steps of the progress bar: for each pass, its tasks and one step for the sum."""
    method, plan = job.config.method, job.plan
    passes = len(job.modalities) if method.encoder == "anchors" else 0
    passes += 2 if method.directions else 0
    reordered = -(-plan.rows // store_order_rows(plan, job.config.bits))
    return passes * (len(plan.encoded_spans) + 1) + reordered + 1


def _fit_model(
    job: Job,
    store: FeatureStore,
    statistics: Statistics,
    anchors: Mapping[str, AnchorRows],
    targets: Targets,
    bits: int,
) -> Model:
    """Fit the model to codes B; ``targets`` has the products of B with features and similarities.

    ``anchors`` is from `prepare_anchors`, or empty for other encoders. ``bits`` is the number of
    bits of a code. One more W-step (Eq. 11) gives the model's projections.
    """
    encoders = fit_encoders(job, statistics, anchors, targets)
    metadata = {
        "versions": current_versions(),
        "config": to_dict(job.config),
        "store": {"rows": store.rows, "modalities": dict(store.modalities)},
    }
    options = job.config.features
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
