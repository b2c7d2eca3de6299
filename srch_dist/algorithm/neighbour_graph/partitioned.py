"""Partitioned neighbour search, out of core: compare rows in small leaves that overlap.

Tasks work on one partition or on one cluster of rows, and need bounded memory:

1. `routing` shuffles the rows of a modality into clusters of near rows.
2. `leaves` splits clusters into leaves, and chooses the leaves that each row visits. A row visits
   leaves in other clusters too.
3. `leaf_search` compares the rows of each leaf, and keeps the k nearest by exact distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.leaf_search import search_leaves
from srch_dist.algorithm.neighbour_graph.leaves import Layout, coverage_task, split_clusters
from srch_dist.algorithm.neighbour_graph.recall import recall_task
from srch_dist.algorithm.neighbour_graph.routing import route_rows
from srch_dist.config.options import GraphConfig
from srch_dist.runtime import tasks
from srch_dist.storage import arrays

# Loss of recall in the leaves, beyond that of pairs that share no leaf.
_SEARCH_LOSS = 0.01
# Factor of the number of leaves if the search is repeated.
_MORE_LEAVES = 1.25


@dataclass(frozen=True)
class SearchResult:
    """Measures of the search in one modality; see `ModalityReport`."""

    recall: float
    clusters: int
    leaves: int


def search_partitioned(job: Job, modality: str, sample: Delayed) -> SearchResult:
    """Find and write the k nearest neighbours of every row among the rows of its leaves.

    `choose_leaves` chooses the number of leaves that each row visits. If the recall is below
    ``graph.recall_target``, the search is repeated with a quarter more leaves, up to
    ``graph.leaves_max``.

    Raises
    ------
    TrainingError : a row shares its leaves with fewer than k other rows.
    """
    options, progress = job.config.graph, job.progress
    record = _prepare(job, modality, sample)
    layout = Layout(*(tuple(record[name]) for name in ("places", "leaves", "nodes")))
    most = min(options.leaves_max, layout.leaves[-1])
    count = choose_leaves(np.array(record["shares"]), options)
    while True:
        recall = _search(job, modality, layout, count, sample)
        if recall >= options.recall_target or count >= most:
            break
        count = min(most, int(np.ceil(_MORE_LEAVES * count)))
        progress.note(
            f"graph {modality}: recall {recall:.3f} is below graph.recall_target "
            f"{options.recall_target:g}; searching again with {count} leaves per row"
        )
    if recall < options.recall_target:
        progress.warn(
            f"graph {modality}: recall {recall:.3f} stays below graph.recall_target "
            f"{options.recall_target:g} with {count} leaves per row; raise graph.leaves_max"
        )
    arrays.remove(job.run.scratch("points"))
    return SearchResult(recall, len(layout.clusters), count)


def choose_leaves(shares: NDArray[np.float64], options: GraphConfig) -> int:
    """Choose the fewest leaves per row whose coverage allows ``graph.recall_target``.

    Parameters
    ----------
    shares : (m,) result of `coverage_task` for 1, 2, … leaves per row; each share is 0 to 1.
    """
    enough = np.flatnonzero(shares >= min(1.0, options.recall_target + _SEARCH_LOSS))
    least = int(enough[0]) + 1 if len(enough) else len(shares)
    return min(len(shares), max(options.leaves, least))


def _prepare(job: Job, modality: str, sample: Delayed) -> Mapping[str, Any]:
    """Write clusters and leaves; return the fields of `Layout`, and coverage as ``shares``."""
    stages, parts = job.stages, len(job.plan.partitions)
    if (record := stages.find(f"leaves.{modality}")) is None:
        with job.progress.stage(f"{modality}: clusters", parts) as stage:
            routed = route_rows(job, modality, stage)
        with job.progress.stage(f"{modality}: leaves", len(routed[0]) - 1) as stage:
            layout = split_clusters(job, modality, routed, stage)
        arrays.remove(job.run.scratch("routed"))
        shares = tasks.run_one(coverage_task(job, layout, sample))
        values = {**vars(layout), "shares": shares.tolist()}
        record = stages.commit(f"leaves.{modality}", values, {})
    return record.values


def _search(job: Job, modality: str, layout: Layout, count: int, sample: Delayed) -> float:
    """Search with ``count`` leaves per row, and return the recall.

    The recall is recorded: a resumed run does not measure a later search in its place.
    """
    stages, name = job.stages, f"recall.{modality}.{count}"
    if (record := stages.find(name)) is None:
        total = 3 * len(layout.clusters) + len(job.plan.partitions)
        with job.progress.stage(f"{modality}: neighbours", total) as stage:
            search_leaves(job, modality, layout, count, stage)
        recall: float = tasks.run_one(recall_task(job.run, modality, sample))
        record = stages.commit(name, {"recall": recall}, {})
    return float(record.values["recall"])
