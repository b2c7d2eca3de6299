"""Fixed sample of training rows, used as anchors of the encoders and to learn rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory


def write_sample(job: Job) -> None:
    """Write the features of at most ``method.anchors`` training rows to ``run.sample``."""
    run = job.run
    rows = arrays.read_rows(run.rows)[arrays.read_rows(run.order)]
    positions = sample_positions(rows, job.config.method.anchors)
    arrays.create_chunk(run.sample("rows"), positions)
    tasks.run_all([tasks.task(_copy_sample, run, g, positions) for g in job.modalities])


def sample_positions(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose at most ``count`` of the ``rows`` (n,), by hash of the row number in the store.

    The choice does not depend on the seed, the row order or the partitioning.

    Returns
    -------
    Positions in ``rows``, ascending.
    """
    return smallest_hashes(rows, count, 0, Stream.TRAINING_SAMPLE)


def _copy_sample(run: RunDirectory, modality: str, positions: NDArray[np.int64]) -> None:
    features = arrays.read_selected(run.features(modality), positions)
    arrays.create_chunk(run.sample(modality), features)
