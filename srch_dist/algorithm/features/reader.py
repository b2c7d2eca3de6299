"""Read normalised features: partitions into worker memory, or tiles with read-ahead."""

from __future__ import annotations

from collections.abc import Iterator

from dask.delayed import Delayed

from srch_dist.algorithm.job import Job
from srch_dist.kernels.rbf import TILE
from srch_dist.kernels.types import Array
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.read_ahead import read_ahead
from srch_dist.storage.run.directory import RunDirectory


def load_features(job: Job) -> list[Delayed]:
    """Load the features of every partition into worker memory, as {modality: (rows, d_g)}.

    If a worker is lost, its partitions are read again.
    """
    return tasks.persist(
        [
            tasks.task(_read_features, job.run, job.modalities, job.plan.span(p))
            for p in job.plan.partitions
        ]
    )


def read_tiles(
    run: RunDirectory, modalities: tuple[str, ...], span: tuple[int, int], partition_rows: int
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Read the rows ``span`` (first, end) in pieces, in order; a thread reads the next piece ahead.

    Yields the number of a piece's first row, and the piece's features (rows, d_g) by modality. A
    piece has ``partition_rows`` rows, rounded up to a multiple of `TILE`. The last piece may be
    shorter.
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
