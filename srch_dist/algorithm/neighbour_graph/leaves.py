"""Split the clusters of a modality into leaves, and choose the leaves that each row visits.

`srch_dist.kernels.graph.leaves` defines leaves, nodes and visits. Rows are numbered by cluster,
then by leaf: this *place* 0 … n - 1 does not depend on the partitioning. The scratch folder of a
cluster holds, in the order of the places:

- "points": coordinates in the subspace, "features": all dimensions, "numbers": row numbers, and
  "positions": positions in training order
- "leaf_ends" and "node_ends": first row of each leaf and first leaf of each node, in the cluster
- "leaves" and "nodes": their centroids
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph.recall import Sample
from srch_dist.algorithm.neighbour_graph.routing import read_bounds
from srch_dist.kernels.graph import leaves as kernels
from srch_dist.kernels.graph.principal import Subspace
from srch_dist.kernels.sized import Sized
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.resumable import Work, run_units
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import gather_spill, read_spill, take_spill, write_spill


@dataclass(frozen=True)
class Layout(Sized):
    """First place, leaf and node of each of c clusters, then their total: (c + 1,) each."""

    places: tuple[int, ...]
    leaves: tuple[int, ...]
    nodes: tuple[int, ...]

    @property
    def clusters(self) -> range:
        """Numbers of the clusters."""
        return range(len(self.places) - 1)


def split_clusters(
    job: Job, modality: str, routed: tuple[tuple[int, ...], Subspace], stage: ProgressStage
) -> Layout:
    """Write the leaves of every cluster; ``routed`` is the result of `route_rows`.

    The progress bar ``stage`` advances once per cluster.
    """
    run, plan, (places, subspace) = job.run, job.plan, routed
    size, shared = kernels.leaf_rows(job.config.graph.k), tasks.as_task_input(subspace)
    works: list[Work] = [
        (_split_cluster, run, plan, cluster, size, shared) for cluster in range(len(places) - 1)
    ]
    found = run_units(job.stages, f"split.{modality}", works, stage)
    leaves, nodes = (
        (0, *np.cumsum([int(part[kind][0]) for part in found]).tolist())
        for kind in ("leaves", "nodes")
    )
    return Layout(places, leaves, nodes)


def take_rows(
    run: RunDirectory, layout: Layout, name: str, places: NDArray[np.int64]
) -> NDArray[Any]:
    """Read the array ``name`` at ascending ``places`` (m,), from the files of all clusters."""
    return _take(run, name, layout.places, places)


def visit_leaves(
    run: RunDirectory, layout: Layout, cluster: int, rows: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose the leaves that some rows of a cluster visit: their own, and the nearest others.

    Parameters
    ----------
    rows : (m,) ascending positions in the cluster, m > 0.
    count : number of leaves per row; at most the number of all leaves.

    Returns
    -------
    Leaves (m, count), in no order, -1 for none; and half of the squared distances (m, count) to
    their centroids. The distance of a row's own leaf is below 0.
    """
    folder = run.scratch("points", cluster)
    ends = tuple(read_spill(folder, name) for name in ("leaf_ends", "node_ends"))
    nodes = np.concatenate([read_spill(run.scratch("points", c), "nodes") for c in layout.clusters])
    node_leaves = _node_leaves(run, layout)
    parts = []
    for start in range(0, len(rows), kernels.VISITING_ROWS):
        own = rows[start : start + kernels.VISITING_ROWS]
        points = read_spill(folder, "points", int(own[0]), int(own[-1]) + 1)[own - own[0]]
        leaf = np.searchsorted(ends[0], own, side="right") - 1
        node = np.searchsorted(ends[1], leaf, side="right") - 1
        chosen = _choose_nodes(nodes, points, node + layout.nodes[cluster])
        # Only the centroids of the leaves in chosen nodes are read.
        needed = _ranges(node_leaves, np.unique(chosen))
        centroids = _take(run, "leaves", layout.leaves, needed)
        spans = np.searchsorted(needed, node_leaves[:-1]), np.diff(node_leaves)
        column = (chosen == (node + layout.nodes[cluster])[:, None]).argmax(axis=1)
        home = column, leaf - ends[1][node]
        keys = kernels.visit_keys(points, chosen, partial(_leaves_of_node, centroids, spans), home)
        keys.partition(count - 1, axis=1)
        parts.append(_decode(keys[:, :count], chosen, node_leaves))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _leaves_of_node(
    centroids: NDArray[np.float32],
    spans: tuple[NDArray[np.int64], NDArray[np.int64]],
    node: int,
) -> NDArray[np.float32]:
    """Return the centroids of a node's leaves; ``spans`` are starts and sizes by node."""
    starts, sizes = spans
    return centroids[starts[node] : starts[node] + sizes[node]]


def _choose_nodes(
    nodes: NDArray[np.float32], points: NDArray[np.float32], own: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Choose nodes (m, c) for each of the ``points``; ``own`` (m,) are their own nodes, ascending.

    ``nodes`` are the centroids of all nodes.
    """
    near, count = (min(most, len(nodes)) for most in (kernels.NEAR_NODES, kernels.ROW_NODES))
    distinct, starts = np.unique(own, return_index=True)
    chosen = np.empty((len(points), count), dtype=np.int64)
    for g, low, high in zip(distinct, starts, [*starts[1:], len(own)], strict=True):
        options = kernels.nearest_nodes(nodes, np.array([g]), near)[0]
        home = np.full(high - low, np.searchsorted(options, g))
        found = kernels.nearest_centroids(points[low:high], nodes[options], count, home)
        chosen[low:high] = options[found]
    return chosen


def _decode(
    keys: NDArray[np.int32], chosen: NDArray[np.int64], node_leaves: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return leaves and half squared distances of the keys (m, count) of `visit_keys`."""
    column, leaf = np.divmod(keys & ((1 << kernels.VISIT_BITS) - 1), kernels.NODE_LEAVES)
    absent = keys == kernels.ABSENT
    column[absent] = 0
    leaves = node_leaves[np.take_along_axis(chosen, column.astype(np.int64), axis=1)] + leaf
    leaves[absent] = -1
    return leaves, (keys & np.int32(-1 << kernels.VISIT_BITS)).view(np.float32)


def coverage_task(job: Job, layout: Layout, sample: Delayed) -> Delayed:
    """Create a task that returns the share of true neighbours that visit a leaf with their row.

    A search in leaves has about this recall. The task returns shares (m,), 0 to 1: one for each
    number of leaves per row 1 … m. m is ``graph.leaves_max``, or the number of all leaves.
    """
    most = min(job.config.graph.leaves_max, layout.leaves[-1])
    shared = tasks.as_task_input(layout)
    places = tasks.task(_sampled_places, job.run, job.plan, shared, sample)
    parts = [
        tasks.task(_visits_of_places, job.run, shared, cluster, places, most)
        for cluster in layout.clusters
    ]
    return tasks.task(_coverage, places, *parts)


def _split_cluster(
    run: RunDirectory, plan: Plan, cluster: int, size: int, subspace: Subspace
) -> dict[str, NDArray[np.int64]]:
    """Gather the rows of a cluster, and write them by leaf; return numbers of leaves and nodes."""
    folders = [run.scratch("routed", p) for p in plan.partitions]
    spans = [read_bounds(run, p)[cluster : cluster + 2].tolist() for p in plan.partitions]
    features = gather_spill(folders, "features", spans)
    with threadpool_limits(1):
        points = subspace.project(features)
        order, leaf_ends, node_ends = _leaves_of(points, size)
        points = points[order]
        ends = {"leaf_ends": leaf_ends, "node_ends": node_ends}
        means = {
            "leaves": kernels.centroids(points, leaf_ends),
            "nodes": kernels.centroids(points, leaf_ends[node_ends]),
        }
    folder = run.scratch("points", cluster)
    write_spill(folder, {"points": kernels.with_norms(points), **ends, **means})
    del points
    write_spill(folder, {"features": features[order]})
    names = ("positions", "numbers")
    write_spill(folder, {name: gather_spill(folders, name, spans)[order] for name in names})
    return {"leaves": np.array([len(leaf_ends) - 1]), "nodes": np.array([len(node_ends) - 1])}


def _leaves_of(
    points: NDArray[np.float32], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Split points into nodes, and nodes into leaves of at most ``size`` points.

    Returns the points' positions by leaf, and "leaf_ends" and "node_ends".
    """
    order: list[NDArray[np.int64]] = []
    leaf_sizes: list[int] = []
    node_sizes: list[int] = []
    for node in kernels.split_points(points, max(kernels.NODE_ROWS, 4 * size)):
        leaves = kernels.split_points(points[node], size)
        order.extend(node[leaf] for leaf in leaves)
        leaf_sizes.extend(len(leaf) for leaf in leaves)
        node_sizes.append(len(leaves))
    return np.concatenate(order), _ends(leaf_sizes), _ends(node_sizes)


def _ends(sizes: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _node_leaves(run: RunDirectory, layout: Layout) -> NDArray[np.int64]:
    """Return the first leaf of every node, then the number of leaves: (nodes + 1,)."""
    parts = [
        layout.leaves[c] + read_spill(run.scratch("points", c), "node_ends")[:-1]
        for c in layout.clusters
    ]
    return np.concatenate([*parts, [layout.leaves[-1]]])


def _ranges(ends: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenate the ranges ``ends[i]`` … ``ends[i + 1]`` - 1 for each i in ``numbers``."""
    sizes = ends[numbers + 1] - ends[numbers]
    shifts = ends[numbers] - (np.cumsum(sizes) - sizes)
    numbered: NDArray[np.int64] = np.arange(sizes.sum()) + np.repeat(shifts, sizes)
    return numbered


def _take(
    run: RunDirectory, name: str, starts: tuple[int, ...], wanted: NDArray[np.int64]
) -> NDArray[Any]:
    cuts = np.searchsorted(wanted, starts)
    empty = read_spill(run.scratch("points", 0), name, 0, 0)
    result = np.empty((len(wanted), *empty.shape[1:]), empty.dtype)
    for cluster, (low, high) in enumerate(pairwise(cuts)):
        if low < high:
            rows = wanted[low:high] - starts[cluster]
            result[low:high] = take_spill(run.scratch("points", cluster), name, rows)
    return result


def _sampled_places(
    run: RunDirectory, plan: Plan, layout: Layout, sample: Sample
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places (m,) of the sampled rows, and those of their neighbours (m, k)."""
    place = np.empty(plan.rows, dtype=np.int64)
    numbered = np.empty(plan.rows, dtype=np.int64)
    for c in layout.clusters:
        span = np.arange(layout.places[c], layout.places[c + 1])
        place[read_spill(run.scratch("points", c), "positions")] = span
        numbered[read_spill(run.scratch("points", c), "numbers")] = span
    return place[sample.positions], numbered[sample.exact.rows]


def _visits_of_places(
    run: RunDirectory,
    layout: Layout,
    cluster: int,
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    most: int,
) -> NDArray[np.int64]:
    """Return the visits of those ``places`` that are in the cluster, nearest leaves first."""
    wanted = np.unique(np.concatenate([part.ravel() for part in places]))
    low, high = layout.places[cluster], layout.places[cluster + 1]
    rows = wanted[(wanted >= low) & (wanted < high)] - low
    if not len(rows):
        return np.empty((0, most), dtype=np.int64)
    leaves, distances = visit_leaves(run, layout, cluster, rows, most)
    return np.take_along_axis(leaves, np.argsort(distances, axis=1, kind="stable"), axis=1)


def _coverage(
    places: tuple[NDArray[np.int64], NDArray[np.int64]], *parts: NDArray[np.int64]
) -> NDArray[np.float64]:
    visits = np.concatenate(parts)
    wanted = np.unique(np.concatenate([part.ravel() for part in places]))
    own, theirs = (visits[np.searchsorted(wanted, part)] for part in places)
    own = np.where(own < 0, -2, own)  # absent leaves are not common ones
    shares = np.empty(visits.shape[1])
    for m in range(1, len(shares) + 1):
        # By leaf of the sampled row: an array of all pairs of leaves would be large.
        met = np.zeros(theirs.shape[:2], dtype=bool)
        for column in range(m):
            met |= (theirs[:, :, :m] == own[:, None, column, None]).any(axis=2)
        shares[m - 1] = met.mean()
    return shares
