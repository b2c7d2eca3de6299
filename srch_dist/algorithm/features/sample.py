"""The sample of training rows that serves as anchors and for the rotation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory


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
    return smallest_hashes(rows, count, 0, Stream.TRAINING_SAMPLE)


def _copy_sample(run: RunDirectory, modality: str, rows: NDArray[np.int64]) -> None:
    arrays.create_chunk(run.sample(modality), arrays.read_selected(run.features(modality), rows))
