"""Shuffle the rows of a modality, so that every cluster of near rows is one scratch file.

k-means on a sample finds centres. Rows are sorted by their nearest centre; near centres follow each
other. Clusters are equal cuts of this order, so their size does not depend on the data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from srch_dist.algorithm.features.kmeans import sample_for_clusters
from srch_dist.algorithm.job import Job
from srch_dist.kernels.clusters import (
    bisection_order,
    nearest_centres,
    routing_centres,
    search_clusters,
    slice_bounds,
)
from srch_dist.kernels.graph.leaves import k_means
from srch_dist.kernels.graph.principal import Subspace, search_subspace
from srch_dist.kernels.tiling import even_splits
from srch_dist.kernels.types import Arrays
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.resumable import Work, run_units
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import read_spill, write_spill


def route_rows(job: Job, modality: str, stage: ProgressStage) -> tuple[tuple[int, ...], Subspace]:
    """Write the rows of each partition to scratch files, sorted by centre.

    Cluster c has the rows of positions ``starts[c]`` to ``starts[c + 1]`` - 1 in this order;
    `read_bounds` finds them in the scratch files. The progress bar ``stage`` advances once per
    partition.

    Returns
    -------
    ``starts``: the first position of each cluster, then n; and the subspace to search in.
    """
    run, plan, cluster_rows = job.run, job.plan, job.config.graph.cluster_rows
    starts = even_splits(plan.rows, search_clusters(plan.rows, cluster_rows))
    found = _find_centres(job, modality)
    centres = tasks.as_task_input(found["centres"])
    works: list[Work] = [
        (_spill_partition, run, modality, plan.span(p), p, centres) for p in plan.partitions
    ]
    run_units(job.stages, f"routed.{modality}", works, stage)
    if run.scratch("routed").exists():  # removed when the clusters are written
        count = len(found["centres"])
        tasks.run_one(tasks.task(_write_bounds, run, plan, count, starts))
    return starts, Subspace(found["mean"], found["directions"])


def _find_centres(job: Job, modality: str) -> Arrays:
    """Find the centres (c, d), near ones next to each other; and the fields of `Subspace`."""
    plan, stages, name = job.plan, job.stages, f"centres.{modality}"
    if (record := stages.find(name)) is None:
        wanted = routing_centres(plan.rows, job.config.graph.cluster_rows)
        found = tasks.run_one(tasks.task(_sample_centres, job.run, modality, plan, wanted))
        record = stages.commit(name, {}, found)
    return record.arrays


def read_bounds(run: RunDirectory, partition: int) -> NDArray[np.int64]:
    """Read where each cluster starts in the scratch file of a partition (clusters + 1,)."""
    return read_spill(run.scratch("routed", partition), "bounds")


def _sample_centres(
    run: RunDirectory, modality: str, plan: Plan, wanted: int
) -> dict[str, NDArray[np.float64]]:
    """Apply k-means to sampled rows in training order, in the subspace that they define.

    The distances from a row to two centres differ as much in all dimensions as in the subspace.
    """
    parts = []
    rows = arrays.read_rows(run.rows)
    for p in plan.partitions:
        low, high = plan.span(p)
        numbers = rows[arrays.read_rows(run.order, low, high)]
        chosen = sample_for_clusters(numbers, wanted, plan.rows)
        if len(chosen):
            parts.append(arrays.read_rows(run.features(modality), low, high)[chosen])
    sample = np.concatenate(parts)
    parts.clear()
    with threadpool_limits(1):  # rounding depends on the number of threads
        subspace = search_subspace(sample)
        points = k_means(subspace.project(sample), wanted)
        centres = subspace.lift(points)
        centres = centres[np.argsort(bisection_order(centres))]
    return {"centres": centres, **vars(subspace)}


def _spill_partition(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    partition: int,
    centres: NDArray[np.float64],
) -> None:
    features = arrays.read_rows(run.features(modality), *span)
    with threadpool_limits(1):
        nearest = nearest_centres(features, centres, 1)[:, 0]
    sorting = np.argsort(nearest, kind="stable")
    write_spill(
        run.scratch("routed", partition),
        {
            "centres": nearest[sorting],
            "positions": span[0] + sorting,
            "numbers": arrays.read_rows(run.order, *span)[sorting],
            "features": features[sorting],
        },
    )


def _write_bounds(run: RunDirectory, plan: Plan, count: int, starts: tuple[int, ...]) -> None:
    """Write to each scratch file where each cluster starts in it.

    ``count`` is the number of centres.
    """

    def centre_counts() -> Iterator[NDArray[np.int64]]:
        for p in plan.partitions:
            yield np.bincount(read_spill(run.scratch("routed", p), "centres"), minlength=count)

    sizes = np.zeros(count, dtype=np.int64)
    for counts in centre_counts():
        sizes += counts
    bounds = slice_bounds(centre_counts(), sizes, np.array(starts))
    for p, file_bounds in zip(plan.partitions, bounds, strict=True):
        write_spill(run.scratch("routed", p), {"bounds": file_bounds})
