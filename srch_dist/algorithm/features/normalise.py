"""The first passes over the features: means, normalised copies, Gram matrices, first codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.features.kmeans import find_centres, sampled
from srch_dist.algorithm.features.row_order import gather_works, joint_points, spill_rows
from srch_dist.config.loading import TrainConfig
from srch_dist.errors import InputError
from srch_dist.kernels import features as kernels
from srch_dist.kernels import packed_codes as codes
from srch_dist.kernels.clusters import nearest_centres, order_clusters, tour
from srch_dist.kernels.features import GramMatrices
from srch_dist.plan.planner import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress, Stage
from srch_dist.runtime.resumable import run_units
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.stages import StageRecord, Stages
from srch_dist.storage.scratch import read_spill, write_spill

Matrix = NDArray[np.float64]

_LARGEST = 1e15
# So that the sample is not the one drawn for something else.
_SAMPLE_STREAM = 0xA9C4


@dataclass(frozen=True)
class Statistics:
    """What the passes before the loop learn.

    Attributes
    ----------
    means : (d_g,) of the training rows. zero_rows : rows that are zero once centred.
    grams : X_g' X_h for each pair of modalities. cross_covariance : X_g B' (d_g, l) of the
        random first codes.
    """

    means: Mapping[str, Matrix]
    zero_rows: Mapping[str, int]
    grams: GramMatrices
    cross_covariance: Mapping[str, Matrix]

    def commit(self, stages: Stages, name: str) -> None:
        """Record these as what a stage passes on."""
        arrays = {f"mean/{g}": mean for g, mean in self.means.items()}
        arrays |= {f"gram/{g}/{h}": gram for (g, h), gram in self.grams.items()}
        arrays |= {f"cross/{g}": matrix for g, matrix in self.cross_covariance.items()}
        stages.commit(name, {"zero_rows": dict(self.zero_rows)}, arrays)

    @classmethod
    def of_record(cls, record: StageRecord) -> Statistics:
        """What `commit` recorded."""
        zero_rows, found = record.values["zero_rows"], record.arrays
        return cls(
            {g: found[f"mean/{g}"] for g in zero_rows},
            zero_rows,
            {
                (g, h): found[f"gram/{g}/{h}"]
                for g in zero_rows
                for h in zero_rows
                if f"gram/{g}/{h}" in found
            },
            {g: found[f"cross/{g}"] for g in zero_rows},
        )


@dataclass(frozen=True)
class _Sums:
    """Partial results of the second pass; see `Statistics`."""

    zero_rows: Mapping[str, int]
    grams: GramMatrices
    cross_covariance: Mapping[str, Matrix]

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            {g: count + other.zero_rows[g] for g, count in self.zero_rows.items()},
            {pair: gram + other.grams[pair] for pair, gram in self.grams.items()},
            {g: part + other.cross_covariance[g] for g, part in self.cross_covariance.items()},
        )


class _ColumnSums(dict[str, Matrix]):
    """Column sums by modality, as of `column_sums`, which add up."""

    def __add__(self, other: _ColumnSums) -> _ColumnSums:
        return _ColumnSums({g: kernels.add_sums(sums, other[g]) for g, sums in self.items()})


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


def verify_features(run: RunDirectory, plan: Plan, stages: Stages) -> list[Delayed]:
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
    stages: Stages,
    stage: Stage,
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
        shared, lasting = tasks.literal(means), tasks.literal(order.arrays["centres"])
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
    return centres[np.argsort(tour(centres))]


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


def write_sample(run: RunDirectory, modalities: tuple[str, ...], count: int) -> None:
    """Write the features of a fixed sample of at most ``count`` training rows."""
    chosen = sample_positions(arrays.read_rows(run.rows)[arrays.read_rows(run.order)], count)
    arrays.create_chunk(run.sample("rows"), chosen)
    tasks.run_all([tasks.task(_copy_sample, run, g, chosen) for g in modalities])


def sample_positions(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions, ascending, of at most ``count`` of the ``rows`` (n,), numbered as in the store.

    They are chosen by hash of the row number: by nothing that a seed, an order or a partitioning
    changes.
    """
    keys = codes.hash_rows(_SAMPLE_STREAM, rows)
    return np.sort(np.argsort(keys, kind="stable")[:count])


def _copy_sample(run: RunDirectory, modality: str, rows: NDArray[np.int64]) -> None:
    arrays.create_chunk(run.sample(modality), arrays.read_selected(run.features(modality), rows))


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
