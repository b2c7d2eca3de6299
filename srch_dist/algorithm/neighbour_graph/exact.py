"""Exact neighbour search, out of core: compare all pairs of partitions by matrix products."""

from __future__ import annotations

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.kernels.graph.neighbours import Neighbours, keep_nearest, merge_exact
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.resumable import Work
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory


def search_works(run: RunDirectory, modality: str, plan: Plan, k: int) -> list[Work]:
    """Create one `Work` per partition, to find and write the k nearest neighbours of its rows."""
    return [(_search_partition, run, modality, plan.starts, p, k) for p in plan.partitions]


def nearest_to_rows(
    run: RunDirectory, modality: str, plan: Plan, positions: Delayed, k: int
) -> Delayed:
    """Create a task that returns the exact k nearest neighbours of m rows.

    ``positions`` (m,) are the rows' positions in training order, ascending.
    """
    queries = tasks.task(arrays.read_selected, run.features(modality), positions)
    numbers = tasks.task(arrays.read_selected, run.order, positions)
    parts = [
        tasks.task(_search_rows, run, modality, plan.span(p), queries, numbers, k)
        for p in plan.partitions
    ]
    return tasks.task(_merge, k, *parts)


def write_neighbours(run: RunDirectory, modality: str, start: int, found: Neighbours) -> None:
    """Write the neighbours of consecutive rows; ``start`` is the position of the first row."""
    arrays.write_rows(run.neighbours(modality, "rows"), start, found.rows)
    arrays.write_rows(run.neighbours(modality, "distances"), start, found.distances)


def _search_partition(
    run: RunDirectory, modality: str, starts: tuple[int, ...], partition: int, k: int
) -> None:
    start, stop = starts[partition], starts[partition + 1]
    order = arrays.read_rows(run.order)
    queries, numbers = arrays.read_rows(run.features(modality), start, stop), order[start:stop]
    found = merge_exact(Neighbours.empty(len(numbers), k), queries, numbers, queries, numbers)
    for other in range(len(starts) - 1):
        if other != partition:
            low, high = starts[other], starts[other + 1]
            block = arrays.read_rows(run.features(modality), low, high)
            found = merge_exact(found, queries, numbers, block, order[low:high])
    write_neighbours(run, modality, start, found)


def _search_rows(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    queries: NDArray[np.floating],
    numbers: NDArray[np.int64],
    k: int,
) -> Neighbours:
    block = arrays.read_rows(run.features(modality), *span)
    empty = Neighbours.empty(len(numbers), k)
    return merge_exact(empty, queries, numbers, block, arrays.read_rows(run.order, *span))


def _merge(k: int, *parts: Neighbours) -> Neighbours:
    distances = np.concatenate([part.distances for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    owners, columns = np.nonzero(rows >= 0)
    return keep_nearest(owners, distances[owners, columns], rows[owners, columns], len(rows), k)
