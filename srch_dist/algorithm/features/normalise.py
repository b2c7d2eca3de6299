"""The first passes over the features: means, normalised copies, Gram matrices, first codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.features.kmeans import find_centres, sampled
from srch_dist.algorithm.features.row_order import gather_works, joint_points, spill_rows
from srch_dist.algorithm.features.statistics import Statistics, _ColumnSums, _Sums
from srch_dist.config.options import TrainConfig
from srch_dist.errors import InputError
from srch_dist.kernels import features as kernels
from srch_dist.kernels import packed_codes as codes
from srch_dist.kernels.clusters import bisection_order, nearest_centres, order_clusters
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress, ProgressStage
from srch_dist.runtime.resumable import run_units
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.stages import StageLog
from srch_dist.storage.scratch import read_spill, write_spill

_LARGEST = 1e15


def prepare_features(
    store: FeatureStore, run: RunDirectory, plan: Plan, config: TrainConfig, progress: Progress
) -> Statistics:
    """Write normalised features and random first codes of the rows in ``run.rows``.

    They are written in training order (``run.order``): by cluster over all modalities together,
    then ascending, so that rows and their neighbours lie near each other.

    Raises
    ------
    InputError : too many rows are zero after centring.
    """
    stages = run.stages(config)
    with progress.stage("features", 3 * len(plan.partitions)) as stage:
        statistics = _first_passes(store, run, plan, config, stages, stage)
        create_codes(run, plan, config.loop_bits, 0)
        clusters = len(stages.read("order").arrays["centres"])
        gathers = gather_works(run, plan, store.modalities, clusters, config)
        found = run_units(stages, "gathered", gathers, stage)
    checksums = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    stages.commit("features", {}, checksums)
    for name in ("order", "sample"):
        arrays.remove(run.scratch(name))
    return statistics


def verify_features(run: RunDirectory, plan: Plan, stages: StageLog) -> list[Delayed]:
    """Tasks that hold the arrays of `prepare_features` against their checksums."""
    paths = {"order": run.order, "codes": run.checkpoint(0, "codes")}
    recorded = dict(stages.read("features").arrays)
    if run.latest() is not None:  # later codes have taken their place
        del recorded["codes"]
    return [
        tasks.task(
            arrays.verify_rows,
            paths.get(name) or run.features(name.removeprefix("features.")),
            *plan.span(p),
            int(found[p]),
        )
        for name, found in recorded.items()
        for p in plan.partitions
    ]


def _first_passes(
    store: FeatureStore,
    run: RunDirectory,
    plan: Plan,
    config: TrainConfig,
    stages: StageLog,
    stage: ProgressStage,
) -> Statistics:
    """Means, centres of the row order, and the statistics, with the rows set aside by cluster."""
    clusters = order_clusters(plan.rows, config.graph.order_rows)
    if (known := stages.find("means")) is None:
        parts = [
            tasks.task(_partition_sums, store, run, p, plan.span(p), clusters, plan.rows)
            for p in plan.partitions
        ]
        sums = tasks.run_one(tasks.add_up(parts))
        known = stages.commit("means", {}, {g: sums[g].sum(axis=0) / plan.rows for g in sums})
    means = {g: known.arrays[g] for g in store.modalities}
    stage.advance(len(plan.partitions))
    if (order := stages.find("order")) is None:
        centres = _order_centres(run, plan, clusters, means, config)
        order = stages.commit("order", {}, {"centres": centres})
    if (record := stages.find("spilled")) is None:
        shared, lasting = tasks.as_task_input(means), tasks.as_task_input(order.arrays["centres"])
        parts = [
            tasks.task(_spill_partition, store, run, plan, p, shared, lasting, config)
            for p in plan.partitions
        ]
        sums = tasks.run_one(tasks.add_up(parts))
        _refuse_zero_rows(sums.zero_rows, plan.rows, config.features.max_zero_share)
        statistics = Statistics(means, sums.zero_rows, sums.grams, sums.cross_covariance)
        statistics.commit(stages, "spilled")
    else:
        statistics = Statistics.of_record(record)
    stage.advance(len(plan.partitions))
    return statistics


def _order_centres(
    run: RunDirectory,
    plan: Plan,
    clusters: int,
    means: Mapping[str, Matrix],
    config: TrainConfig,
) -> Matrix:
    """Centres (c, w) over all modalities together, near ones following each other."""
    if clusters == 1:
        return np.zeros((1, 1))
    centres = find_centres(
        run, "order", clusters, config.seed, _sample_points, run, plan, means, config
    )
    return centres[np.argsort(bisection_order(centres))]


def _sample_points(
    run: RunDirectory, plan: Plan, means: Mapping[str, Matrix], config: TrainConfig
) -> NDArray[np.float32]:
    """The sampled rows (m, w) as they are clustered, ascending by row number."""
    parts = []
    for p in plan.partitions:
        raw = ((g, read_spill(run.scratch("sample", p), g)) for g in means)
        blocks, _ = _normalise_blocks(raw, means, config, np.dtype(np.float64))
        parts.append(joint_points(blocks, config.seed).astype(np.float32))
    return np.concatenate(parts)


def create_codes(run: RunDirectory, plan: Plan, bits: int, iteration: int) -> None:
    """Make the empty array of an iteration's packed codes."""
    path = run.checkpoint(iteration, "codes")
    arrays.ensure_array(path, (plan.rows, bits // 8), plan.partition_rows, np.uint8)


def _partition_sums(
    store: FeatureStore,
    run: RunDirectory,
    partition: int,
    span: tuple[int, int],
    clusters: int,
    total: int,
) -> _ColumnSums:
    """Column sums; where rows will be clustered, the sampled ones are set aside meanwhile."""
    rows = arrays.read_rows(run.rows, *span)
    sums, sample = _ColumnSums(), {}
    chosen = sampled(rows, clusters, total) if clusters > 1 else rows[:0]
    for g in store.modalities:
        block = store.read_selected(g, rows)
        bad = kernels.invalid_rows(block)
        if len(bad):
            raise InputError(f"{store.path}: {g} holds NaN or Inf in row {rows[bad[0]]}")
        _refuse_out_of_range(g, block)
        sums[g] = kernels.column_sums(block)
        sample[g] = block[chosen]
    if clusters > 1:
        write_spill(run.scratch("sample", partition), sample)
    return sums


def _refuse_out_of_range(g: str, block: NDArray[np.floating]) -> None:
    """Refuse features whose squares leave float64."""
    largest = float(np.abs(block.astype(np.float64)).max(initial=0.0))
    if largest > 1e100 or 0.0 < largest < 1e-100:
        raise InputError(f"{g} holds values around {largest:.0e}; scale the features nearer to 1")


def _spill_partition(
    store: FeatureStore,
    run: RunDirectory,
    plan: Plan,
    partition: int,
    means: Mapping[str, Matrix],
    centres: Matrix,
    config: TrainConfig,
) -> _Sums:
    """Normalise a partition of the store's order, and set its rows aside sorted by cluster."""
    low, high = plan.span(partition)
    rows = arrays.read_rows(run.rows, low, high)
    raw = ((g, store.read_selected(g, rows)) for g in store.modalities)
    blocks, zero_rows = _normalise_blocks(raw, means, config, plan.dtype)
    first = codes.random_codes(config.seed, rows, config.loop_bits)
    clusters = np.zeros(len(rows), dtype=np.int64)
    if len(centres) > 1:
        clusters = nearest_centres(joint_points(blocks, config.seed), centres, 1)[:, 0]
    for g, block in blocks.items():
        _refuse_huge(g, block)
    spill_rows(run, partition, low, rows, clusters, blocks)
    return _Sums(
        zero_rows,
        kernels.gram_matrices(blocks),
        {g: kernels.product_sum(block, first) for g, block in blocks.items()},
    )


def _normalise_blocks(
    raw: Iterable[tuple[str, NDArray[np.floating]]],
    means: Mapping[str, Matrix],
    config: TrainConfig,
    dtype: np.dtype[Any],
) -> tuple[dict[str, NDArray[np.floating]], dict[str, int]]:
    """Normalised features and the number of zero rows, by modality; ``raw`` is taken one by one."""
    options = config.features
    blocks, zero_rows = {}, {}
    for g, block in raw:
        blocks[g], zero = kernels.normalise(
            block, means[g], options.center, options.unit_norm, dtype
        )
        zero_rows[g] = int(zero.sum())
    return blocks, zero_rows


def _refuse_huge(g: str, block: NDArray[np.floating]) -> None:
    """Refuse values whose squares float32 cannot hold; only without unit_norm can they occur."""
    largest = float(np.abs(block).max(initial=0.0))
    if largest > _LARGEST:
        raise InputError(
            f"{g} holds a value of {largest:.1e} after centring, above {_LARGEST:.0e}; scale the "
            "features or leave features.unit_norm on"
        )


def _refuse_zero_rows(zero_rows: Mapping[str, int], rows: int, share: float) -> None:
    for g, count in zero_rows.items():
        if count > max(1, int(share * rows)):
            raise InputError(
                f"{g}: {count} of {rows} rows are zero after centring, more than "
                f"{share:.0%}; they carry no information, so remove them or raise "
                "features.max_zero_share"
            )
