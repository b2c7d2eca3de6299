"""Fixed sample of training rows, used as anchors of the encoders and to learn rotations."""

from __future__ import annotations

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory


def write_sample(job: Job) -> dict[str, int]:
    """Write the features of at most ``method.anchors`` training rows to ``run.sample``.

    Returns
    -------
    The crc32 of each written array, by name: "rows" for the positions, else the modality.
    """
    run = job.run
    rows = arrays.read_rows(run.rows)[arrays.read_rows(run.order)]
    positions = sample_positions(rows, job.config.method.anchors)
    written = arrays.create_chunk(run.sample("rows"), positions)
    copies = [tasks.task(_copy_sample, run, g, positions) for g in job.modalities]
    copied = dict(zip(job.modalities, tasks.run_all(copies), strict=True))
    return {"rows": written, **copied}


def verify_sample(job: Job) -> list[Delayed]:
    """Create tasks that verify the checksums of `write_sample`.

    Earlier versions recorded no checksums; for their samples, there are no tasks.
    """
    recorded = job.stages.read("sample").values.get("checksums", {})
    return [
        tasks.task(arrays.verify_rows, job.run.sample(kind), 0, None, checksum)
        for kind, checksum in recorded.items()
    ]


def sample_positions(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose at most ``count`` of the ``rows`` (n,), by hash of the row number in the store.

    The choice does not depend on the seed, the row order or the partitioning.

    Returns
    -------
    Positions in ``rows``, ascending.
    """
    return smallest_hashes(rows, count, 0, Stream.TRAINING_SAMPLE)


def _copy_sample(run: RunDirectory, modality: str, positions: NDArray[np.int64]) -> int:
    features = arrays.read_selected(run.features(modality), positions)
    return arrays.create_chunk(run.sample(modality), features)
