"""Coarse clusters: projections, nearest centres, groups and order of clusters, sorted runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from srch_dist.kernels.types import Array, IntArray, Matrix

# Distances worked out at once: at most this many float64 values (16 MiB).
_TILE_VALUES = 1 << 21
# Distances are compared on this grid, relative to their scale: equal ones stay equal in whatever
# block they are worked out.
_GRID = 2.0**-40
# A group below this share of the limit joins its nearest one.
_SMALL_SHARE = 0.25
# Width of the random projection that rows are assigned on; narrower features are taken as they are.
PROJECTED = 256
# Sampled rows a cluster, and at least: sizes of clusters are estimated from them.
_SAMPLE_A_CLUSTER, _LEAST_SAMPLE = 64, 1 << 14
# Rows of a block of the sample. It has nothing to do with partitions: sums in k-means follow it.
SAMPLE_CHUNK = 8192
# Share of a cluster's rows that k-means aims at: clusters come out of unequal size.
_FILLED = 0.7
# Clusters of the row order. Below the least, neighbours lie near each other as it is.
_LEAST_CLUSTERS, _MOST_CLUSTERS = 16, 1024


def order_clusters(rows: int, cluster_rows: int) -> int:
    """Clusters by which n rows are put in order; 1 keeps the order of the store."""
    clusters = min(rows // cluster_rows, _MOST_CLUSTERS)
    return clusters if clusters >= _LEAST_CLUSTERS else 1


def routing_clusters(rows: int, cluster_rows: int) -> int:
    """Clusters that k-means makes of n rows so that none comes out far above ``cluster_rows``."""
    return max(1, -(-rows // max(1, int(_FILLED * cluster_rows))))


def sample_size(clusters: int) -> int:
    """Rows that are sampled to make so many clusters."""
    return max(_SAMPLE_A_CLUSTER * clusters, _LEAST_SAMPLE)


def gaussian_projection(seed: int, dims: int, width: int) -> Matrix:
    """A (dims, width) matrix that keeps squared lengths in expectation."""
    matrix: Matrix = np.random.default_rng(seed).normal(size=(dims, width)) / np.sqrt(width)
    return matrix


def nearest_centres(points: Array, centres: Matrix, count: int) -> IntArray:
    """The ``count`` nearest of the centres (c, w) to each point (n, w), nearest first, (n, count).

    Ties go to the lower centre. In float64 and on a grid, so that a row's centres do not depend
    on the rows that it is worked out with.
    """
    norms = np.einsum("ij,ij->i", centres, centres)
    result = np.empty((len(points), count), dtype=np.int64)
    step = max(1, _TILE_VALUES // len(centres))
    for start in range(0, len(points), step):
        tile = points[start : start + step].astype(np.float64)
        scale = np.einsum("ij,ij->i", tile, tile) + norms.max() + np.finfo(np.float64).tiny
        # The point's own norm moves all its distances alike.
        relative = (norms - 2.0 * (tile @ centres.T)) / scale[:, None]
        # One integer that is ordered by distance, then by number.
        keys = np.rint(relative / _GRID).astype(np.int64) * len(centres) + np.arange(len(centres))
        if count == 1:
            keys = keys.min(axis=1, keepdims=True)
        elif count < len(centres):
            keys = np.partition(keys, count - 1, axis=1)[:, :count]
        result[start : start + step] = np.sort(keys, axis=1) % len(centres)
    return result


def group_centres(centres: Matrix, sizes: IntArray, limit: float) -> IntArray:
    """Pack clusters into groups and return the group (c,) of each cluster, numbered from 0.

    While the smallest group has less than a quarter of ``limit`` rows, it joins the group whose
    centre of gravity is nearest, among those that stay within the limit where there are any.
    """
    group = np.arange(len(centres))
    rows = sizes.astype(np.float64)
    means = centres.astype(np.float64).copy()
    alive = np.ones(len(centres), dtype=bool)
    while alive.sum() > 1:
        smallest = int(np.flatnonzero(alive)[np.argmin(rows[alive])])
        if rows[smallest] >= _SMALL_SHARE * limit:
            break
        others = np.flatnonzero(alive & (np.arange(len(rows)) != smallest))
        roomy = others[rows[others] + rows[smallest] <= limit]
        others = roomy if len(roomy) else others
        distances = ((means[others] - means[smallest]) ** 2).sum(axis=1)
        target = int(others[np.argmin(distances)])
        total = max(rows[target] + rows[smallest], 1.0)
        means[target] = (rows[target] * means[target] + rows[smallest] * means[smallest]) / total
        rows[target] += rows[smallest]
        group[group == smallest] = target
        alive[smallest] = False
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def bisection_order(centres: Matrix) -> IntArray:
    """The rank (c,) of each cluster in an order in which near ones follow each other.

    Clusters are halved again and again along the direction in which they spread most.
    """
    rank = np.empty(len(centres), dtype=np.int64)
    rank[_halve(centres.astype(np.float64), np.arange(len(centres)))] = np.arange(len(centres))
    return rank


def distinct_groups(groups: IntArray, count: int) -> IntArray:
    """The first ``count`` different values of each row of ``groups`` (n, m), then -1."""
    result = np.full((len(groups), count), -1, dtype=np.int64)
    found = np.zeros(len(groups), dtype=np.int64)
    for column in groups.T:
        fresh = (found < count) & ~(result == column[:, None]).any(axis=1)
        rows = np.flatnonzero(fresh)
        result[rows, found[rows]] = column[rows]
        found[rows] += 1
    return result


def slice_bounds(
    parts: Iterable[IntArray], sizes: IntArray, starts: IntArray
) -> Iterator[IntArray]:
    """Where each part's rows of the sorted order are cut, one part after another.

    Rows are sorted by cluster, then part, then place in the part; each part has its own rows
    sorted by cluster.

    Parameters
    ----------
    parts : for each part its rows (c,) in each cluster. sizes : (c,), of all parts together.
    starts : (m,), places in the sorted order, up to and with the number of rows.

    Yields
    ------
    (m,) for each part: how many of its rows lie before each place. The rows between two places
    are so a run of each part's rows.
    """
    before_cluster = np.concatenate([[0], np.cumsum(sizes)])
    # The cluster that each place lies in; the end lies behind the last.
    cluster = np.searchsorted(before_cluster, starts, side="right") - 1
    cluster = np.minimum(cluster, len(sizes) - 1)
    inside = starts - before_cluster[cluster]
    for counts in parts:
        own = np.cumsum(counts) - counts
        yield own[cluster] + np.clip(inside, 0, counts[cluster])
        inside = inside - counts[cluster]


def _halve(centres: Matrix, members: IntArray) -> IntArray:
    if len(members) <= 2:
        return members
    own = centres[members] - centres[members].mean(axis=0)
    direction = np.linalg.svd(own, full_matrices=False)[2][0]
    # The sign of a singular vector is open; the largest entry is made positive.
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))] or 1.0)
    ordered = members[np.argsort(own @ direction, kind="stable")]
    middle = len(ordered) // 2
    return np.concatenate([_halve(centres, ordered[:middle]), _halve(centres, ordered[middle:])])
