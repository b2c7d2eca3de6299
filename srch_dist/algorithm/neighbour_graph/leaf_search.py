"""Compare the members of all leaves, and merge what the leaves of each row found.

`srch_dist.algorithm.neighbour_graph.leaves` writes the points of all clusters. Here, four passes
with one task per cluster or partition follow: choose visits, search leaves, measure the distances
of the candidates in all dimensions, and collect the neighbours by partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.exact import write_neighbours
from srch_dist.algorithm.neighbour_graph.leaves import Layout, take_rows, visit_leaves
from srch_dist.errors import TrainingError
from srch_dist.kernels.graph import leaves as kernels
from srch_dist.kernels.graph.neighbours import (
    Neighbours,
    candidate_distances,
    keep_nearest_columns,
)
from srch_dist.kernels.permutations import inverse_permutation
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.resumable import Work, run_units
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import gather_spill, read_spill, write_spill


def search_leaves(
    job: Job, modality: str, layout: Layout, count: int, stage: ProgressStage
) -> None:
    """Find and write the k nearest of the rows that share a leaf with each row.

    ``count`` is the number of leaves that each row visits. Finished tasks are recorded under a name
    that contains it. The progress bar ``stage`` advances three times per cluster and once per
    partition.

    Raises
    ------
    TrainingError : a row shares its leaves with fewer than k other rows.
    """
    run, plan, k, stages = job.run, job.plan, job.config.graph.k, job.stages
    name, shared = f"{modality}.{count}", tasks.as_task_input(layout)
    block = kernels.refined_rows(_dims(run, modality))

    def run_all(kind: str, works: list[Work]) -> None:
        run_units(stages, f"{kind}.{name}", works, stage)

    run_all("visited", [(_write_visits, run, shared, c, count, k) for c in layout.clusters])
    run_all("searched", [(_search_cluster, run, shared, c, k, block) for c in layout.clusters])
    arrays.remove(run.scratch("visits"))
    run_all(
        "measured",
        [(_measure_cluster, run, plan, shared, c, (count, k, block)) for c in layout.clusters],
    )
    arrays.remove(run.scratch("found"))
    run_all(
        "merged",
        [
            (_merge_partition, run, modality, plan.span(p), p, len(layout.clusters), k)
            for p in plan.partitions
        ],
    )
    arrays.remove(run.scratch("nearest"))


def _dims(run: RunDirectory, modality: str) -> int:
    return int(arrays.open_array(run.features(modality)).shape[1])


def _write_visits(run: RunDirectory, layout: Layout, cluster: int, count: int, k: int) -> None:
    """Write which leaves the rows of a cluster visit, sorted by leaf."""
    low, high = layout.places[cluster], layout.places[cluster + 1]
    with threadpool_limits(1):
        leaves, distances = visit_leaves(run, layout, cluster, np.arange(high - low), count)
    places = np.repeat(np.arange(low, high, dtype=np.int32), count)
    known = leaves.ravel() >= 0
    flat, nearness = leaves.ravel()[known].astype(np.int32), distances.ravel()[known]
    places = places[known]
    sorting = _by_leaf(flat, nearness, k)
    write_spill(
        run.scratch("visits", cluster),
        {
            "ends": np.searchsorted(flat[sorting], layout.leaves),
            "leaves": flat[sorting],
            "places": places[sorting],
            "distances": nearness[sorting],
        },
    )


def _by_leaf(
    leaves: NDArray[np.int32], distances: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """Sort visits by leaf, stably, and keep the nearest ones if a leaf has too many members.

    Returns the positions of the visits that are kept.
    """
    most = (1 << kernels.member_bits(k)) - 1
    sorting = np.argsort(leaves, kind="stable")
    ordered = leaves[sorting]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(starts, append=len(ordered))
    kept = np.ones(len(ordered), dtype=bool)
    for start, size in zip(starts[sizes > most], sizes[sizes > most], strict=True):
        own = slice(int(start), int(start + size))
        far = np.argsort(distances[sorting[own]], kind="stable")[most:]
        kept[start + far] = False
    return sorting[kept]


def _search_cluster(run: RunDirectory, layout: Layout, cluster: int, k: int, block: int) -> None:
    """Search the leaves of one cluster; write the candidates of each member, sorted by place.

    ``block`` is the number of rows that `_measure_cluster` measures at once.
    """
    folders = [run.scratch("visits", c) for c in layout.clusters]
    spans = [read_spill(folder, "ends", cluster, cluster + 2).tolist() for folder in folders]
    leaves, places, distances = (
        gather_spill(folders, name, spans) for name in ("leaves", "places", "distances")
    )
    sorting = _by_leaf(leaves, distances, k)
    leaves, places = leaves[sorting], places[sorting]
    # Candidates are written in the order of the places, to which the visits are sorted here.
    sorting = np.argsort(places, kind="stable")
    target = inverse_permutation(sorting)
    found = kernels.absent_candidates(len(places), k)
    for visits in _groups(leaves):
        distinct, members = np.unique(places[visits], return_inverse=True)
        points = take_rows(run, layout, "points", distinct.astype(np.int64))
        with threadpool_limits(1):
            for low, high in _leaf_spans(leaves[visits]):
                nearest = kernels.search_members(points, distinct, members[low:high], k)
                found[target[visits][low:high], : nearest.shape[1]] = nearest
    places = places[sorting]
    write_spill(
        run.scratch("found", cluster),
        {
            "ends": np.searchsorted(places, _blocks(layout, block)),
            "places": places,
            "candidates": found,
        },
    )


def _leaf_spans(leaves: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Return the range (start, stop) of each leaf's visits; ``leaves`` are sorted."""
    cuts = np.flatnonzero(np.diff(leaves, prepend=-1, append=-1))
    return pairwise(cuts.tolist())


def _groups(leaves: NDArray[np.int32]) -> Iterator[slice]:
    """Split sorted visits into ranges of whole leaves, of about `GROUP_VISITS` visits at most."""
    start = 0
    for _, stop in _leaf_spans(leaves):
        if stop - start >= kernels.GROUP_VISITS or stop == len(leaves):
            yield slice(start, stop)
            start = stop


def _blocks(layout: Layout, block: int) -> NDArray[np.int64]:
    """Return the first place of every block of at most ``block`` rows, then n."""
    spans = zip(layout.places[:-1], layout.places[1:], strict=True)
    return np.concatenate([*(np.arange(*span, block) for span in spans), [layout.places[-1]]])


def _measure_cluster(
    run: RunDirectory, plan: Plan, layout: Layout, cluster: int, shape: tuple[int, int, int]
) -> None:
    """Keep the k nearest candidates of each row of a cluster, by distance in all dimensions.

    ``shape`` is (leaves per row, k, rows of a block). The scratch file is sorted by the rows'
    positions in training order.
    """
    count, k, block = shape
    blocks = _blocks(layout, block)
    own = np.searchsorted(blocks, layout.places[cluster : cluster + 2])
    parts: list[Neighbours] = []
    for number in range(int(own[0]), int(own[1])):
        low, high = int(blocks[number]), int(blocks[number + 1])
        packed = np.full((high - low, count, k), kernels.NO_CANDIDATE, dtype=np.int64)
        lists = np.zeros(high - low, dtype=np.int64)
        for other in layout.clusters:
            folder = run.scratch("found", other)
            span = read_spill(folder, "ends", number, number + 2).tolist()
            if span[0] < span[1]:
                rows = read_spill(folder, "places", *span).astype(np.int64) - low
                # A row is in the file once for each leaf of the cluster that it visits.
                rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
                packed[rows, lists[rows] + rank] = read_spill(folder, "candidates", *span)
                lists += np.bincount(rows, minlength=high - low)
        candidates = kernels.nearest_candidates(
            packed.reshape(high - low, -1), min(count * k, kernels.kept_candidates(k))
        )
        parts += _measure(run, layout, low, kernels.candidate_numbers(candidates), k)
    positions = read_spill(run.scratch("points", cluster), "positions")
    sorting = np.argsort(positions)
    write_spill(
        run.scratch("nearest", cluster),
        {
            "ends": np.searchsorted(positions[sorting], plan.starts),
            "positions": positions[sorting],
            "rows": np.concatenate([part.rows for part in parts])[sorting],
            "distances": np.concatenate([part.distances for part in parts])[sorting],
        },
    )


def _measure(
    run: RunDirectory, layout: Layout, low: int, candidates: NDArray[np.int64], k: int
) -> list[Neighbours]:
    """Select the k nearest candidates (b, c) of the b rows from place ``low`` on.

    ``candidates`` are places; -1 is none. Distances use float64 and all dimensions. The features of
    rows and candidates are in memory at once; too many rows are measured in two halves.
    """
    owners, columns = np.nonzero(candidates >= 0)
    picked = candidates[owners, columns]
    distinct = np.union1d(picked, np.arange(low, low + len(candidates)))
    one = take_rows(run, layout, "features", distinct[:1])
    if len(distinct) * one.nbytes > kernels.MEASURED_BYTES and len(candidates) > 1:
        half = len(candidates) // 2
        first = _measure(run, layout, low, candidates[:half], k)
        return first + _measure(run, layout, low + half, candidates[half:], k)
    features, numbers = (take_rows(run, layout, name, distinct) for name in ("features", "numbers"))
    index = np.searchsorted(distinct, picked)
    rows = np.full(candidates.shape, -1, dtype=np.int64)
    distances = np.full(candidates.shape, np.inf)
    rows[owners, columns] = numbers[index]
    home = int(np.searchsorted(distinct, low))
    distances[owners, columns] = candidate_distances(features, home + owners, features, index)
    return [keep_nearest_columns(distances, rows, k)]


def _merge_partition(
    run: RunDirectory, modality: str, span: tuple[int, int], partition: int, clusters: int, k: int
) -> None:
    """Collect the neighbours of the rows of one partition from the files of all clusters."""
    low, high = span
    found = Neighbours.empty(high - low, k)
    for cluster in range(clusters):
        folder = run.scratch("nearest", cluster)
        part = read_spill(folder, "ends", partition, partition + 2).tolist()
        if part[0] < part[1]:
            own = read_spill(folder, "positions", *part) - low
            found.rows[own] = read_spill(folder, "rows", *part)
            found.distances[own] = read_spill(folder, "distances", *part)
    short = int(np.count_nonzero(found.rows[:, -1] < 0))
    if short:
        raise TrainingError(
            f"{modality}: {short} rows share their leaves with fewer than {k} other rows. "
            "Raise graph.leaves."
        )
    write_neighbours(run, modality, low, found)
