"""Refine neighbours: compare every row with its neighbours' neighbours, in any cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.exact import write_neighbours
from srch_dist.kernels.graph.neighbours import Neighbours, candidate_distances, keep_nearest
from srch_dist.kernels.permutations import inverse_permutation
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.resumable import Work, run_units
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import read_spill, write_spill


def refine_neighbours(job: Job, modality: str, overlap: int, stage: ProgressStage) -> None:
    """Replace each row's neighbours by the k nearest of its neighbours and their neighbours.

    A task refines the rows of one partition. It reads every partition that holds candidates for
    them, one at a time. Finished tasks are recorded under a name that contains ``overlap``: if the
    search is repeated with a larger overlap, its result is refined again. The progress bar
    ``stage`` advances twice per partition.
    """
    run, plan, stages, name = job.run, job.plan, job.stages, f"{modality}.{overlap}"
    works: list[Work] = [(_refine_partition, run, modality, plan, p) for p in plan.partitions]
    run_units(stages, f"refined.{name}", works, stage)
    # Copy after all partitions are refined: those tasks read the neighbours before refinement.
    works = [(_copy_partition, run, modality, plan.span(p)[0], p) for p in plan.partitions]
    run_units(stages, f"copied.{name}", works, stage)
    arrays.remove(run.scratch("refined"))


def second_neighbours(
    own: NDArray[np.int64], rows: NDArray[np.int64], lists: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List each row's neighbours of neighbours, without the row itself and its neighbours.

    Parameters
    ----------
    own : (n,) row numbers.
    rows : (n, k) row numbers of the neighbours.
    lists : (n, k, k) row numbers of the neighbours' neighbours.

    Returns
    -------
    For each distinct pair (m,) of a row and a candidate: the row's index 0 … n - 1 in ``own``, and
    the candidate's row number.
    """
    n, k = rows.shape
    known = np.concatenate([own[:, None], rows, lists.reshape(n, k * k)], axis=1)
    # The sort is stable: of equal numbers, a known neighbour comes first.
    order = np.argsort(known, axis=1, kind="stable")
    sorted_numbers = np.take_along_axis(known, order, axis=1)
    fresh = order > k
    fresh[:, 1:] &= sorted_numbers[:, 1:] != sorted_numbers[:, :-1]
    owners, columns = np.nonzero(fresh)
    return owners, sorted_numbers[owners, columns]


def _refine_partition(run: RunDirectory, modality: str, plan: Plan, partition: int) -> None:
    low, high = plan.span(partition)
    order = arrays.read_rows(run.order)
    position = inverse_permutation(order)
    features = arrays.read_rows(run.features(modality), low, high)
    rows, distances = (
        arrays.read_rows(run.neighbours(modality, kind), low, high)
        for kind in ("rows", "distances")
    )
    n, k = rows.shape
    lists = arrays.read_scattered(run.neighbours(modality, "rows"), position[rows.ravel()])
    owners, candidates = second_neighbours(order[low:high], rows, lists.reshape(n, k, k))
    places = position[candidates]
    lengths = np.empty(len(owners))
    for p in plan.partitions:
        start, stop = plan.span(p)
        here = np.flatnonzero((places >= start) & (places < stop))
        if len(here):
            block = arrays.read_rows(run.features(modality), start, stop)
            lengths[here] = candidate_distances(features, owners[here], block, places[here] - start)
    found = keep_nearest(
        np.concatenate([np.repeat(np.arange(n), k), owners]),
        np.concatenate([distances.ravel(), lengths]),
        np.concatenate([rows.ravel(), candidates]),
        n,
        k,
    )
    refined = {"rows": found.rows, "distances": found.distances}
    write_spill(run.scratch("refined", partition), refined)


def _copy_partition(run: RunDirectory, modality: str, start: int, partition: int) -> None:
    folder = run.scratch("refined", partition)
    found = Neighbours(read_spill(folder, "distances"), read_spill(folder, "rows"))
    write_neighbours(run, modality, start, found)
