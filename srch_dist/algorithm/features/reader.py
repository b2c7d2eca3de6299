"""Read normalised features in passes over rows, ahead of their use."""

from __future__ import annotations

from collections.abc import Iterator

from dask.delayed import Delayed

from srch_dist.kernels.rbf import TILE
from srch_dist.kernels.types import Array
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.read_ahead import read_ahead
from srch_dist.storage.run.directory import RunDirectory


def load_features(run: RunDirectory, plan: Plan, modalities: tuple[str, ...]) -> list[Delayed]:
    """Every partition's features on the workers, read again where a worker is lost."""
    return tasks.persist(
        [tasks.task(_read_features, run, modalities, plan.span(p)) for p in plan.partitions]
    )


def read_tiles(
    run: RunDirectory, modalities: tuple[str, ...], span: tuple[int, int], partition_rows: int
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Features of rows by modality with the number of their first row, reading ahead.

    Whole tiles at a time, about as many rows as a partition has.
    """
    step = -(-partition_rows // TILE) * TILE
    parts = [(low, min(low + step, span[1])) for low in range(span[0], span[1], step)]

    def read(part: tuple[int, int]) -> tuple[int, dict[str, Array]]:
        return part[0], _read_features(run, modalities, part)

    return read_ahead(read, parts)


def _read_features(
    run: RunDirectory, modalities: tuple[str, ...], span: tuple[int, int]
) -> dict[str, Array]:
    return {g: arrays.read_rows(run.features(g), *span) for g in modalities}
