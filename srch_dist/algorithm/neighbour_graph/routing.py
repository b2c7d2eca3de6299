"""Route rows to coarse clusters: k-means on a sample, then split large and pack small clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.features.kmeans import find_centres, sample_for_clusters
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.recall import Sample
from srch_dist.kernels.clusters import (
    CENTRES_PER_CLUSTER,
    PROJECTED,
    distinct_groups,
    gaussian_projection,
    group_centres,
    nearest_centres,
    routing_clusters,
)
from srch_dist.kernels.permutations import inverse_permutation
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

# Maximum number of rounds; each halves the clusters above the limit.
_SPLIT_ROUNDS = 8


@dataclass(frozen=True)
class Clusters:
    """Coarse clusters; a cluster has one or several k-means centres.

    Attributes
    ----------
    centres : (c, w) c centres in w dimensions.
    group : (c,) number of the cluster to which each centre belongs.
    """

    centres: NDArray[np.float64]
    group: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.group.max()) + 1


def find_clusters(job: Job, modality: str) -> Clusters:
    """Find clusters of about ``graph.cluster_rows`` rows by k-means on a sample.

    Large clusters are split and small ones packed. The sample estimates the cluster sizes.
    """
    run, plan, seed, limit = job.run, job.plan, job.config.seed, job.config.graph.cluster_rows
    wanted = routing_clusters(plan.rows, limit)
    name = f"routing.{modality}"
    arguments = (run, modality, plan, wanted, seed)
    centres = find_centres(run, name, wanted, seed, _sample_points, *arguments)
    clusters: Clusters = tasks.run_one(
        tasks.task(_shape_clusters, run, name, centres, limit / plan.rows)
    )
    return clusters


def split_centres(
    points: NDArray[np.floating], centres: NDArray[np.float64], limit: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Split every cluster with more than ``limit`` points along its widest direction.

    Each of the m ``points`` (m, w) belongs to its nearest centre. Equal points cannot be split.

    Returns
    -------
    Centres (c, w) and numbers of points (c,) of the c clusters that are not empty.
    """
    for _ in range(_SPLIT_ROUNDS):
        nearest = nearest_centres(points, centres, 1)[:, 0]
        sizes = np.bincount(nearest, minlength=len(centres))
        kept = np.ones(len(centres), dtype=bool)
        added: list[NDArray[np.float64]] = []
        for cluster in np.flatnonzero(sizes > limit):
            halves = _halve(points[nearest == cluster])
            if halves is not None:
                kept[cluster] = False
                added.extend(halves)
        if not added:
            break
        centres = np.concatenate([centres[kept], np.array(added)])
    nearest = nearest_centres(points, centres, 1)[:, 0]
    sizes = np.bincount(nearest, minlength=len(centres))
    return centres[sizes > 0], sizes[sizes > 0]


def route_rows(job: Job, modality: str, clusters: Clusters, stage: ProgressStage) -> None:
    """Write each row's route: its ``graph.overlap_max`` nearest clusters, nearest first."""
    run, plan, config, most = job.run, job.plan, job.config, job.config.graph.overlap_max
    arrays.remove(run.routes(modality))
    arrays.create_array(run.routes(modality), (plan.rows, most), plan.partition_rows, np.int64)
    shared = tasks.as_task_input(clusters)
    work = [
        tasks.task(_route_partition, run, modality, plan.span(p), shared, most, config.seed)
        for p in plan.partitions
    ]
    tasks.run_all(work, stage)


def coverage(run: RunDirectory, modality: str, sample: Sample, most: int) -> NDArray[np.float64]:
    """Measure the share of pairs of a sampled row and a true neighbour that share a cluster.

    Returns shares (most,), 0 to 1: one for each overlap 1 … ``most``. The overlap is the number of
    clusters in which each row is searched. A search inside clusters cannot have a higher recall.
    """
    order = arrays.read_rows(run.order)
    position = inverse_permutation(order)
    own = arrays.read_scattered(run.routes(modality), sample.positions)
    theirs = arrays.read_scattered(run.routes(modality), position[sample.exact.rows.ravel()])
    theirs = theirs.reshape(*sample.exact.rows.shape, -1)
    shares = np.empty(most)
    for m in range(1, most + 1):
        left, right = own[:, None, :m, None], theirs[:, :, None, :m]
        shares[m - 1] = np.mean(((left == right) & (left >= 0)).any(axis=(2, 3)))
    return shares


def _shape_clusters(
    run: RunDirectory, name: str, centres: NDArray[np.float64], share: float
) -> Clusters:
    """Split large clusters and pack small ones.

    ``share`` (0 to 1) is the largest share of the sampled points that a cluster should have.
    ``name`` is the name under which the sampled points are stored.
    """
    points = arrays.read_rows(run.points(name))
    limit = share * len(points)
    centres, sizes = split_centres(points, centres, limit)
    return Clusters(centres, group_centres(centres, sizes, limit))


def _sample_points(
    run: RunDirectory, modality: str, plan: Plan, wanted: int, seed: int
) -> NDArray[np.float32]:
    """Read the m sampled rows for ``wanted`` clusters, in training order, projected to (m, w)."""
    parts = []
    rows = arrays.read_rows(run.rows)
    for p in plan.partitions:
        low, high = plan.span(p)
        numbers = rows[arrays.read_rows(run.order, low, high)]
        chosen = sample_for_clusters(numbers, wanted, plan.rows)
        if len(chosen):
            block = arrays.read_rows(run.features(modality), low, high)[chosen]
            parts.append(_points(block, seed).astype(np.float32))
    return np.concatenate(parts)


def _points(block: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """Project features (n, d) randomly to (n, `PROJECTED`) if d is larger; else return them."""
    wide = block.astype(np.float64)
    if block.shape[1] <= PROJECTED:
        return wide
    projected: NDArray[np.float64] = wide @ gaussian_projection(seed, block.shape[1], PROJECTED)
    return projected


def _route_partition(
    run: RunDirectory,
    modality: str,
    span: tuple[int, int],
    clusters: Clusters,
    most: int,
    seed: int,
) -> None:
    points = _points(arrays.read_rows(run.features(modality), *span), seed)
    count = min(len(clusters.centres), most * CENTRES_PER_CLUSTER)
    nearest = nearest_centres(points, clusters.centres, count)
    routes = distinct_groups(clusters.group[nearest], most)
    arrays.write_rows(run.routes(modality), span[0], routes)


def _halve(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Split ``points`` (m, w) in two along their widest direction; return the mean of each half.

    Return None if all points are equal.
    """
    wide = points.astype(np.float64)
    own = wide - wide.mean(axis=0)
    direction = np.linalg.eigh(own.T @ own)[1][:, -1]
    along = own @ direction
    low = along < 0
    if not low.any() or low.all() or np.ptp(along) <= 1e-9 * np.abs(wide).max():
        return None
    return wide[low].mean(axis=0), wide[~low].mean(axis=0)
