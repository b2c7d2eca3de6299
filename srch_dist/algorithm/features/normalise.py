"""First passes over the features: means, normalised features in training order, Gram matrices.

There are three resumable passes over the partitions:

1. Sum the columns, for the means.
2. Normalise, sum products, and write each partition's rows sorted by cluster (spill).
3. Gather the spilled rows into the row order; see `srch_dist.algorithm.features.row_order`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.features.kmeans import find_centres, sample_for_clusters
from srch_dist.algorithm.features.row_order import gather_units, joint_points, spill_rows
from srch_dist.algorithm.features.statistics import ColumnSums, FeatureSums, Statistics
from srch_dist.algorithm.job import Job
from srch_dist.config.options import FeatureConfig, TrainConfig
from srch_dist.errors import InputError
from srch_dist.kernels import features as kernels
from srch_dist.kernels.clusters import bisection_order, nearest_centres, order_clusters
from srch_dist.kernels.packed_codes import random_codes
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.resumable import run_units
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import read_spill, write_spill

# Largest normalised value: float32 holds the sums of its squares.
_LARGEST_VALUE = 1e15


@dataclass(frozen=True)
class _SpillRule(Sized):
    """Parameters of the second pass: means, cluster centres, dtype and options."""

    means: Mapping[str, Matrix]
    centres: Matrix
    dtype: np.dtype[Any]
    config: TrainConfig


def prepare_features(job: Job, store: FeatureStore) -> Statistics:
    """Write the normalised features, row order and random first codes of the training rows.

    Training order sorts rows by cluster, then by row number, so that neighbours are near each
    other. Clusters are found on all modalities together.

    Raises
    ------
    InputError : a value is NaN, Inf or out of range, or too many rows are zero after centring.
    """
    run, plan = job.run, job.plan
    clusters = order_clusters(plan.rows, job.config.graph.order_rows)
    with job.progress.stage("features", 3 * len(plan.partitions)) as stage:
        means = _means(job, store, clusters)
        stage.advance(len(plan.partitions))
        centres = _order_centres(job, clusters, means)
        statistics = _normalise_and_spill(job, store, means, centres)
        stage.advance(len(plan.partitions))
        units = gather_units(job, store.modalities, len(centres))
        parts = run_units(job.stages, "gathered", units, stage)
    checksums = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    job.stages.commit("features", {}, checksums)
    for name in ("order", "sample"):
        arrays.remove(run.scratch(name))
    return statistics


def verify_features(job: Job) -> list[Delayed]:
    """Create tasks that compare the arrays of `prepare_features` with their checksums."""
    run, plan = job.run, job.plan
    paths = {"order": run.order, "codes": run.checkpoint(0, "codes")}
    recorded = dict(job.stages.read("features").arrays)
    if run.latest() is not None:  # the first codes are removed once an iteration is committed
        del recorded["codes"]
    return [
        tasks.task(
            arrays.verify_rows,
            paths.get(name) or run.features(name.removeprefix("features.")),
            *plan.span(p),
            int(checksums[p]),
        )
        for name, checksums in recorded.items()
        for p in plan.partitions
    ]


def _means(job: Job, store: FeatureStore, clusters: int) -> dict[str, Matrix]:
    """Compute column means (d_g,) by modality; the same pass stores the sample for clustering."""
    stages, plan = job.stages, job.plan
    if (record := stages.find("means")) is None:
        parts = [
            tasks.task(_partition_sums, store, job.run, p, plan.span(p), clusters, plan.rows)
            for p in plan.partitions
        ]
        sums = tasks.run_one(tasks.add_up(parts))
        means = {g: pair.sum(axis=0) / plan.rows for g, pair in sums.items()}
        record = stages.commit("means", {}, means)
    return {g: record.arrays[g] for g in store.modalities}


def _order_centres(job: Job, clusters: int, means: Mapping[str, Matrix]) -> Matrix:
    """Find the c cluster centres (c, w) of the row order; put near centres next to each other."""
    stages, config = job.stages, job.config
    if (record := stages.find("order")) is None:
        centres: Matrix = np.zeros((1, 1))
        if clusters > 1:
            arguments = (job.run, job.plan, means, config)
            unsorted = find_centres(
                job.run, "order", clusters, config.seed, _sample_points, *arguments
            )
            centres = unsorted[np.argsort(bisection_order(unsorted))]
        record = stages.commit("order", {}, {"centres": centres})
    return record.arrays["centres"]


def _normalise_and_spill(
    job: Job, store: FeatureStore, means: Mapping[str, Matrix], centres: Matrix
) -> Statistics:
    """Normalise every partition, and write its rows sorted by cluster; return the statistics."""
    stages, plan, config = job.stages, job.plan, job.config
    if (record := stages.find("spilled")) is not None:
        return Statistics.of_record(record)
    rule = tasks.as_task_input(_SpillRule(means, centres, plan.dtype, config))
    parts = [
        tasks.task(_spill_partition, store, job.run, p, plan.span(p), rule) for p in plan.partitions
    ]
    sums = tasks.run_one(tasks.add_up(parts))
    _refuse_zero_rows(sums.zero_rows, plan.rows, config.features.max_zero_share)
    statistics = Statistics(means, sums.zero_rows, sums.grams, sums.cross_covariance)
    statistics.commit(stages, "spilled")
    return statistics


def _sample_points(
    run: RunDirectory, plan: Plan, means: Mapping[str, Matrix], config: TrainConfig
) -> NDArray[np.float32]:
    """Project the m sampled rows to points (m, w), by ascending row number; see `joint_points`."""
    parts = []
    for p in plan.partitions:
        raw = ((g, read_spill(run.scratch("sample", p), g)) for g in means)
        blocks, _ = _normalise_blocks(raw, means, config.features, np.dtype(np.float64))
        parts.append(joint_points(blocks, config.seed).astype(np.float32))
    return np.concatenate(parts)


def _partition_sums(
    store: FeatureStore,
    run: RunDirectory,
    partition: int,
    span: tuple[int, int],
    clusters: int,
    total: int,
) -> ColumnSums:
    """Refuse NaN, Inf and values out of range in one partition; sum the partition's columns.

    With several clusters, also write the partition's rows of the k-means sample to a scratch file.
    ``total`` is the number of all training rows.
    """
    rows = arrays.read_rows(run.rows, *span)
    sums, sample = ColumnSums(), {}
    chosen = sample_for_clusters(rows, clusters, total) if clusters > 1 else rows[:0]
    for g in store.modalities:
        block = store.read_selected(g, rows)
        invalid = kernels.invalid_rows(block)
        if len(invalid):
            raise InputError(
                f"{store.path}: {g} holds {kernels.INVALID_VALUES} in row {rows[invalid[0]]}; "
                "remove the row from every modality"
            )
        _refuse_out_of_range(g, block)
        sums[g] = kernels.column_sums(block)
        sample[g] = block[chosen]
    if clusters > 1:
        write_spill(run.scratch("sample", partition), sample)
    return sums


def _spill_partition(
    store: FeatureStore,
    run: RunDirectory,
    partition: int,
    span: tuple[int, int],
    rule: _SpillRule,
) -> FeatureSums:
    """Normalise one partition of the store, and write its rows sorted by cluster.

    Returns the sums over the partition's rows.
    """
    config = rule.config
    rows = arrays.read_rows(run.rows, *span)
    raw = ((g, store.read_selected(g, rows)) for g in store.modalities)
    blocks, zero_rows = _normalise_blocks(raw, rule.means, config.features, rule.dtype)
    codes = random_codes(config.seed, rows, config.loop_bits)
    clusters = np.zeros(len(rows), dtype=np.int64)
    if len(rule.centres) > 1:
        clusters = nearest_centres(joint_points(blocks, config.seed), rule.centres, 1)[:, 0]
    for g, block in blocks.items():
        _refuse_huge(g, block)
    spill_rows(run, partition, span[0], rows, clusters, blocks)
    return FeatureSums(
        zero_rows,
        kernels.gram_matrices(blocks),
        {g: kernels.product_sum(block, codes) for g, block in blocks.items()},
    )


def _normalise_blocks(
    raw: Iterable[tuple[str, NDArray[np.floating]]],
    means: Mapping[str, Matrix],
    options: FeatureConfig,
    dtype: np.dtype[Any],
) -> tuple[dict[str, NDArray[np.floating]], dict[str, int]]:
    """Normalise raw blocks; return the features and the number of zero rows, by modality.

    ``raw`` is an iterator, so that one raw block is in memory at a time.
    """
    blocks, zero_rows = {}, {}
    for g, block in raw:
        blocks[g], zero = kernels.normalise(
            block, means[g], options.center, options.unit_norm, dtype
        )
        zero_rows[g] = int(zero.sum())
    return blocks, zero_rows


def _refuse_out_of_range(g: str, block: NDArray[np.floating]) -> None:
    """Raise InputError if the squares of the features overflow or underflow float64."""
    largest = float(np.abs(block.astype(np.float64)).max(initial=0.0))
    if largest > 1e100 or 0.0 < largest < 1e-100:
        raise InputError(
            f"the largest magnitude in {g} is {largest:.0e}, expected 1e-100 to 1e+100; scale the "
            "features nearer to 1"
        )


def _refuse_huge(g: str, block: NDArray[np.floating]) -> None:
    """Raise InputError for values above `_LARGEST_VALUE`; unit-norm rows never have such values."""
    largest = float(np.abs(block).max(initial=0.0))
    if largest > _LARGEST_VALUE:
        raise InputError(
            f"{g} holds a value of {largest:.1e} after centring, expected at most "
            f"{_LARGEST_VALUE:.0e}; scale the features, or set features.unit_norm to true"
        )


def _refuse_zero_rows(zero_rows: Mapping[str, int], rows: int, share: float) -> None:
    for g, count in zero_rows.items():
        if count > max(1, int(share * rows)):
            raise InputError(
                f"{g}: {count} of {rows} rows are zero after centring, expected at most "
                f"{share:.0%}. Zero rows carry no information. Remove them, or raise "
                "features.max_zero_share"
            )
