"""Recall@k of a neighbour search, measured against exact search on sampled rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.exact import nearest_to_rows
from srch_dist.kernels.graph.neighbours import Neighbours
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

# A neighbour within this multiple of the exact k-th distance counts as true, so that ties count.
_TOLERANCE = 1 + 1e-5


@dataclass(frozen=True)
class Sample:
    """Sample of m rows: positions (m,) in training order, and the k exact neighbours (m, k)."""

    positions: NDArray[np.int64]
    exact: Neighbours


def sample_task(job: Job, modality: str) -> Delayed:
    """Create a task that returns the `Sample` of a modality: at most ``graph.recall_rows`` rows."""
    config = job.config
    positions = tasks.task(_choose, job.run, config.graph.recall_rows, config.seed)
    exact = nearest_to_rows(job.run, modality, job.plan, positions, config.graph.k)
    return tasks.task(Sample, positions, exact)


def recall_task(run: RunDirectory, modality: str, sample: Delayed) -> Delayed:
    """Create a task that returns recall@k, 0 to 1: the share of true neighbours found."""
    return tasks.task(_recall, run, modality, sample)


def sample_rows(rows: NDArray[np.int64], sample: int, seed: int) -> NDArray[np.int64]:
    """Draw at most ``sample`` of the ``rows`` (n,) by hash; return positions, ascending."""
    return smallest_hashes(rows, sample, seed, Stream.GRAPH_RECALL)


def _choose(run: RunDirectory, sample: int, seed: int) -> NDArray[np.int64]:
    rows = arrays.read_rows(run.rows)[arrays.read_rows(run.order)]
    return sample_rows(rows, sample, seed)


def _recall(run: RunDirectory, modality: str, sample: Sample) -> float:
    found = arrays.read_selected(run.neighbours(modality, "distances"), sample.positions)
    limit = sample.exact.distances[:, -1:] * _TOLERANCE**2
    return float(np.mean(found <= limit))
