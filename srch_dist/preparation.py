"""The first passes over the features: means, normalised copies, Gram matrices, first codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.config import TrainConfig
from srch_dist.errors import InputError
from srch_dist.kernels import bits as codes
from srch_dist.kernels import features as kernels
from srch_dist.kernels.features import GramMatrices
from srch_dist.planning import Plan
from srch_dist.progress import Progress
from srch_dist.storage import arrays
from srch_dist.storage.features import FeatureStore
from srch_dist.storage.run import RunDirectory

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

    Raises
    ------
    InputError : too many rows are zero after centring.
    """
    with progress.stage("features", 2 * len(plan.partitions)) as stage:
        parts = [execution.task(_partition_sums, store, run, plan.span(p)) for p in plan.partitions]
        sums = execution.run_one(execution.add_up(parts))
        stage.advance(len(plan.partitions))
        means = {g: total.sum(axis=0) / plan.rows for g, total in sums.items()}
        for g, dims in store.modalities.items():
            arrays.create_array(run.features(g), (plan.rows, dims), plan.partition_rows, plan.dtype)
        create_codes(run, plan, config.loop_bits, 0)
        shared = execution.literal(means)
        parts = [
            execution.task(_prepare_partition, store, run, plan.span(p), shared, config, plan.dtype)
            for p in plan.partitions
        ]
        prepared = execution.run_one(execution.add_up(parts))
        stage.advance(len(plan.partitions))
    _refuse_zero_rows(prepared.zero_rows, plan.rows, config.features.max_zero_share)
    return Statistics(means, prepared.zero_rows, prepared.grams, prepared.cross_covariance)


def write_sample(run: RunDirectory, modalities: tuple[str, ...], count: int) -> None:
    """Write the features of a fixed sample of at most ``count`` training rows."""
    chosen = sample_positions(arrays.read_rows(run.rows), count)
    arrays.create_chunk(run.sample("rows"), chosen)
    execution.run_all([execution.task(_copy_sample, run, g, chosen) for g in modalities])


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
    arrays.create_array(path, (plan.rows, bits // 8), plan.partition_rows, np.uint8)


def _partition_sums(store: FeatureStore, run: RunDirectory, span: tuple[int, int]) -> _ColumnSums:
    rows = arrays.read_rows(run.rows, *span)
    sums = _ColumnSums()
    for g in store.modalities:
        block = store.read_selected(g, rows)
        bad = kernels.invalid_rows(block)
        if len(bad):
            raise InputError(f"{store.path}: {g} holds NaN or Inf in row {rows[bad[0]]}")
        _refuse_out_of_range(g, block)
        sums[g] = kernels.column_sums(block)
    return sums


def _refuse_out_of_range(g: str, block: NDArray[np.floating]) -> None:
    """Refuse features whose squares leave float64."""
    largest = float(np.abs(block.astype(np.float64)).max(initial=0.0))
    if largest > 1e100 or 0.0 < largest < 1e-100:
        raise InputError(f"{g} holds values around {largest:.0e}; scale the features nearer to 1")


def _prepare_partition(
    store: FeatureStore,
    run: RunDirectory,
    span: tuple[int, int],
    means: Mapping[str, Matrix],
    config: TrainConfig,
    dtype: np.dtype[np.float64],
) -> _Sums:
    rows = arrays.read_rows(run.rows, *span)
    first = codes.random_codes(config.seed, rows, config.loop_bits)
    arrays.write_rows(run.checkpoint(0, "codes"), span[0], codes.pack_codes(first))
    options = config.features
    blocks, zero_rows = {}, {}
    for g in store.modalities:
        raw = store.read_selected(g, rows)
        blocks[g], zero = kernels.normalise(raw, means[g], options.center, options.unit_norm, dtype)
        zero_rows[g] = int(zero.sum())
        _refuse_huge(g, blocks[g])
        arrays.write_rows(run.features(g), span[0], blocks[g])
    return _Sums(
        zero_rows,
        kernels.gram_matrices(blocks),
        {g: kernels.product_sum(block, first) for g, block in blocks.items()},
    )


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
