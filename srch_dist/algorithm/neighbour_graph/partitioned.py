"""Partitioned neighbour search, out of core: route rows to coarse clusters, search, merge.

There are three passes, whose tasks need bounded memory. First, each partition writes its rows to
scratch files by cluster. Then each cluster is searched separately, and its results go to scratch
files by partition. Last, each partition merges its results. The design is that of partitioned index
construction in DiskANN (Subramanya et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.exact import write_neighbours
from srch_dist.algorithm.neighbour_graph.nn_descent import descend
from srch_dist.algorithm.neighbour_graph.recall import recall_task
from srch_dist.algorithm.neighbour_graph.refinement import refine_neighbours
from srch_dist.algorithm.neighbour_graph.routing import coverage, find_clusters, route_rows
from srch_dist.config.options import GraphConfig
from srch_dist.errors import TrainingError
from srch_dist.kernels.graph.neighbours import (
    SPARE_CLUSTER,
    Neighbours,
    keep_nearest_columns,
    merge_exact,
)
from srch_dist.kernels.sampling import hash_rows
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.resumable import Work, run_units
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import each_spill, gather_spill, read_spill, write_spill

# Largest number of rows of a cluster that is searched exactly. NN-descent is faster from about
# 10,000 rows on, and compiling it takes about 20 s.
_EXACT_ROWS = 4096
# Loss of recall inside clusters, to add to the loss of recall by routing.
_SEARCH_LOSS = 0.01


@dataclass(frozen=True)
class SearchResult:
    """Measures of the search in one modality; see `ModalityReport`."""

    recall: float
    clusters: int
    overlap: int


def search_partitioned(job: Job, modality: str, sample: Delayed) -> SearchResult:
    """Find and write the k nearest neighbours of every row among the rows of its clusters.

    `choose_overlap` chooses the number of clusters in which a row is searched (the overlap). If the
    recall is below ``graph.recall_target``, the search is repeated with one more cluster per row,
    up to ``graph.overlap_max``.

    Raises
    ------
    TrainingError : a row has fewer than k other rows in its clusters.
    """
    options, parts, progress = job.config.graph, len(job.plan.partitions), job.progress
    routing = _route(job, modality, sample)
    clusters = int(routing["clusters"])
    overlap = choose_overlap(np.array(routing["shares"]), options)
    while True:
        with progress.stage(f"{modality}: neighbours", 2 * parts + clusters) as stage:
            _search(job, modality, clusters, overlap, stage)
        if options.refine:
            with progress.stage(f"{modality}: refinement", 2 * parts) as stage:
                refine_neighbours(job, modality, overlap, stage)
        recall: float = tasks.run_one(recall_task(job.run, modality, sample))
        if recall >= options.recall_target or overlap >= options.overlap_max:
            break
        overlap += 1
        progress.note(
            f"graph {modality}: recall {recall:.3f} is below graph.recall_target "
            f"{options.recall_target:g}; searching again with overlap {overlap}"
        )
    if recall < options.recall_target:
        progress.warn(
            f"graph {modality}: recall {recall:.3f} stays below graph.recall_target "
            f"{options.recall_target:g} at graph.overlap_max {options.overlap_max}; raise "
            "graph.overlap_max or graph.cluster_rows"
        )
    return SearchResult(recall, clusters, overlap)


def _route(job: Job, modality: str, sample: Delayed) -> Mapping[str, Any]:
    """Route the rows to clusters; return the number ``clusters``, and `coverage` as ``shares``."""
    stages, most = job.stages, job.config.graph.overlap_max
    if (record := stages.find(f"routed.{modality}")) is None:
        clusters = find_clusters(job, modality)
        with job.progress.stage(f"{modality}: clusters", len(job.plan.partitions)) as stage:
            route_rows(job, modality, clusters, stage)
        shares = tasks.run_one(tasks.task(coverage, job.run, modality, sample, most))
        values = {"clusters": clusters.count, "shares": shares.tolist()}
        record = stages.commit(f"routed.{modality}", values, {})
    return record.values


def choose_overlap(shares: NDArray[np.float64], options: GraphConfig) -> int:
    """Choose the smallest overlap whose `coverage` allows ``graph.recall_target``.

    Parameters
    ----------
    shares : (overlap_max,) result of `coverage` for overlap 1, 2, …; each share is 0 to 1.
    """
    if options.refine:  # refinement finds neighbours in other clusters too
        return options.overlap
    enough = np.flatnonzero(shares >= min(1.0, options.recall_target + _SEARCH_LOSS))
    least = int(enough[0]) + 1 if len(enough) else options.overlap_max
    return max(options.overlap, least)


def _search(job: Job, modality: str, clusters: int, overlap: int, stage: ProgressStage) -> None:
    """Search the neighbours of each row in the row's ``overlap`` nearest clusters.

    ``clusters`` is the number of all clusters.
    """
    run, plan, config = job.run, job.plan, job.config
    k, most = config.graph.k, config.graph.cluster_rows * config.graph.overlap_max
    stages, name = job.stages, f"{modality}.{overlap}"
    spills: list[Work] = [
        (_spill_partition, run, modality, plan.span(p), p, clusters, overlap)
        for p in plan.partitions
    ]
    run_units(stages, f"sent.{name}", spills, stage)
    searches: list[Work] = [
        (_search_cluster, run, plan, cluster, k, most, config.seed) for cluster in range(clusters)
    ]
    run_units(stages, f"searched.{name}", searches, stage)
    arrays.remove(run.scratch("routed"))
    merges: list[Work] = [
        (_merge_partition, run, modality, plan.span(p), p, clusters, (overlap, k))
        for p in plan.partitions
    ]
    run_units(stages, f"merged.{name}", merges, stage)
    arrays.remove(run.scratch("found"))


def _spill_partition(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    partition: int,
    clusters: int,
    overlap: int,
) -> None:
    """Write the rows of a partition to scratch files, sorted by cluster.

    A row is written once for each of its ``overlap`` nearest clusters.
    """
    routes = arrays.read_rows(run.routes(modality), *span)[:, :overlap]
    rows, level = np.nonzero(routes >= 0)
    cluster = routes[rows, level]
    sorting = np.argsort(cluster, kind="stable")
    rows, level, cluster = rows[sorting], level[sorting], cluster[sorting]
    write_spill(
        run.scratch("routed", partition),
        {
            "ends": np.searchsorted(cluster, np.arange(clusters + 1)),
            "positions": span[0] + rows,
            "numbers": arrays.read_rows(run.order, *span)[rows],
            "levels": level.astype(np.int8),
            "features": arrays.read_rows(run.features(modality), *span)[rows],
        },
    )


def _search_cluster(
    run: RunDirectory, plan: Plan, cluster: int, k: int, most: int, seed: int
) -> None:
    """Search one cluster, and write its rows' neighbours to a scratch file.

    The rows are searched in sets of at most ``most`` rows; see `search_sets`. The file is sorted by
    the rows' positions in training order.
    """
    folders = [run.scratch("routed", p) for p in plan.partitions]
    ends = each_spill(folders, "ends", [(cluster, cluster + 2)] * len(folders))
    spans = [part.tolist() for part in ends]

    def gather(name: str) -> NDArray[np.int64]:
        return gather_spill(folders, name, spans)

    positions, numbers = gather("positions"), gather("numbers")
    positions_found, results = [], []
    for members in search_sets(numbers, gather("levels"), most):
        positions_found.append(positions[members])
        read = partial(_gather_features, folders, spans, members)
        results.append(search_rows(read, numbers[members], k, seed + cluster))
    found = np.concatenate(positions_found)
    sorting = np.argsort(found, kind="stable")
    write_spill(
        run.scratch("found", cluster),
        {
            "ends": np.searchsorted(found[sorting], plan.starts),
            "positions": found[sorting],
            "rows": np.concatenate([part.rows for part in results])[sorting],
            "distances": np.concatenate([part.distances for part in results])[sorting],
        },
    )


def search_sets(
    numbers: NDArray[np.int64], levels: NDArray[np.integer], most: int
) -> list[NDArray[np.bool_]]:
    """Select the rows of a cluster to search, in sets of at most ``most`` rows.

    ``levels`` (rows,) is 0 for a row whose nearest cluster this is, 1 if it is the second nearest,
    and so on. All rows of level 0 are searched. Rows of higher levels are added until there are
    ``most`` rows, lower levels first. More than ``most`` rows of level 0 are split by hash of their
    ``numbers``, since k-means cannot split equal rows.

    Returns
    -------
    One mask (rows of the cluster,) per set.
    """
    home = levels == 0
    keys = hash_rows(0, numbers)
    if len(numbers) <= most:
        return [np.ones(len(numbers), dtype=bool)]
    kept = np.zeros(len(numbers), dtype=bool)
    if home.sum() <= most:
        kept[np.lexsort((keys, levels))[:most]] = True
        return [kept]
    parts = -(-int(home.sum()) // most)
    sets = []
    for part in np.array_split(np.flatnonzero(home)[np.argsort(keys[home])], parts):
        mine = kept.copy()
        mine[part] = True
        sets.append(mine)
    return sets


def search_rows(
    read: Callable[[], NDArray[np.floating]], numbers: NDArray[np.int64], k: int, seed: int
) -> Neighbours:
    """Search the k nearest neighbours among the rows (n, d) that ``read`` returns.

    The search is exact for at most `_EXACT_ROWS` rows, else it is NN-descent.
    """
    if len(numbers) <= max(k + 1, _EXACT_ROWS):
        features, empty = read(), Neighbours.empty(len(numbers), k)
        return merge_exact(empty, features, numbers, features, numbers)
    return descend(read, numbers, k, SPARE_CLUSTER, seed)


def _gather_features(
    folders: Sequence[Location], spans: list[list[int]], members: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Read the features of a cluster's selected rows from the partitions' scratch files.

    ``folders`` and ``spans`` are, for each partition, its scratch folder and the range (first, end)
    of the cluster's rows there. ``members`` (rows of the cluster,) masks the selected rows.
    """
    cuts = np.cumsum([stop - start for start, stop in spans])[:-1]
    sample = read_spill(folders[0], "features", 0, 0)
    # Fill the array in place: a list of parts and their concatenation need twice the memory.
    features = np.empty((int(members.sum()), sample.shape[1]), dtype=sample.dtype)
    place = 0
    masks = np.split(members, cuts)
    wanted = [span if mine.any() else (0, 0) for span, mine in zip(spans, masks, strict=True)]
    chosen = [mine for mine in masks if mine.any()]
    for part, mine in zip(each_spill(folders, "features", wanted), chosen, strict=True):
        rows = part[mine]
        features[place : place + len(rows)] = rows
        place += len(rows)
    return features


def _merge_partition(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    partition: int,
    clusters: int,
    shape: tuple[int, int],
) -> None:
    """Merge the neighbours that were found in all clusters, for the rows of one partition.

    ``shape`` is (overlap, k): the search found ``overlap`` lists of k neighbours for each row.
    """
    (low, high), (overlap, k) = span, shape
    lists = np.zeros(high - low, dtype=np.int64)
    rows = np.full((high - low, overlap, k), -1, dtype=np.int64)
    distances = np.full(rows.shape, np.inf)
    folders = [run.scratch("found", cluster) for cluster in range(clusters)]
    ends = each_spill(folders, "ends", [(partition, partition + 2)] * clusters)
    spans = [part.tolist() for part in ends]
    columns = [each_spill(folders, name, spans) for name in ("positions", "rows", "distances")]
    for positions, found_rows, found_distances in zip(*columns, strict=True):
        own = positions - low
        rows[own, lists[own]] = found_rows
        distances[own, lists[own]] = found_distances
        lists[own] += 1
    found = keep_nearest_columns(distances.reshape(high - low, -1), rows.reshape(high - low, -1), k)
    short = np.flatnonzero(found.rows[:, -1] < 0)
    if len(short):
        raise TrainingError(
            f"{modality}: {len(short)} rows have fewer than {k} other rows in their clusters. "
            "Raise graph.cluster_rows."
        )
    write_neighbours(run, modality, low, found)
