"""Recall@k of a neighbour search, against exact search on sampled rows."""

from __future__ import annotations

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.graph.exact import nearest_to_rows
from srch_dist.kernels.bits import hash_rows
from srch_dist.kernels.neighbours import Neighbours
from srch_dist.planning import Plan
from srch_dist.storage import arrays
from srch_dist.storage.run import RunDirectory

# A neighbour counts as found when it is no farther than this times the exact k-th distance.
_TOLERANCE = 1 + 1e-5
# So that the sample is not the one drawn from the same seed for something else.
_STREAM = 0x5EC411


def recall_task(
    run: RunDirectory, modality: str, plan: Plan, k: int, sample: int, seed: int
) -> Delayed:
    """Share of found neighbours among the k nearest, mean over sampled rows, as a task."""
    rows = sample_rows(plan.rows, sample, seed)
    shared = execution.literal(rows)
    exact = nearest_to_rows(run, modality, plan, shared, k)
    return execution.task(_recall, run, modality, shared, exact)


def sample_rows(n: int, sample: int, seed: int) -> NDArray[np.int64]:
    """At most ``sample`` of n row numbers, ascending, by hash of the row number."""
    if sample >= n:
        return np.arange(n)
    keys = hash_rows(seed ^ _STREAM, np.arange(n))
    return np.sort(np.argpartition(keys, sample)[:sample])


def _recall(
    run: RunDirectory,
    modality: str,
    rows: NDArray[np.int64],
    exact: Neighbours,
) -> float:
    found = arrays.read_selected(run.neighbours(modality, "distances"), rows)
    limit = exact.distances[:, -1:] * _TOLERANCE**2
    return float(np.mean(found <= limit))
