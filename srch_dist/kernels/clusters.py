"""Coarse clusters of rows: project rows, find nearest centres, order the clusters.

In shapes, c is the number of centres or clusters. w is the number of dimensions of a point, after
the random projection if the features are projected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from srch_dist.kernels.permutations import inverse_permutation
from srch_dist.kernels.types import Array, IntArray, Matrix

# Number of float64 distances in memory at once (16 MiB).
TILE_VALUES = 1 << 21
# Distances are rounded to multiples of this grid, relative to their scale. Equal distances then
# stay equal in every block.
_GRID = 2.0**-40
# Width of the random projection for clustering. Narrower features are not projected.
PROJECTED = 256
# Sampled rows per cluster, and minimum in total. The sample estimates the cluster sizes.
_ROWS_PER_CLUSTER, _MIN_SAMPLE = 64, 1 << 14
# Rows per block of the sample. It is a constant, because the rounding in k-means depends on it.
SAMPLE_CHUNK = 8192
# k-means centres per cluster of the partitioned search.
_CENTRES = 2
# Fewest and most clusters of the row order. With fewer, the order of the store serves as well.
_MIN_CLUSTERS, _MAX_CLUSTERS = 16, 1024


def order_clusters(rows: int, cluster_rows: int) -> int:
    """Choose the number of clusters for the row order; 1 keeps the order of the store.

    Clusters have at least ``cluster_rows`` rows on average.
    """
    clusters = min(rows // cluster_rows, _MAX_CLUSTERS)
    return clusters if clusters >= _MIN_CLUSTERS else 1


def search_clusters(rows: int, cluster_rows: int) -> int:
    """Choose the number of clusters of the partitioned search: at most ``cluster_rows`` rows each.

    They are equal cuts of an order of the rows.
    """
    return -(-rows // cluster_rows)


def routing_centres(rows: int, cluster_rows: int) -> int:
    """Choose the number of k-means centres by which the partitioned search sorts the rows."""
    return _CENTRES * search_clusters(rows, cluster_rows)


def sample_size(clusters: int) -> int:
    """Choose the number of rows to sample for k-means with ``clusters`` clusters."""
    return max(_ROWS_PER_CLUSTER * clusters, _MIN_SAMPLE)


def gaussian_projection(seed: int, dims: int, width: int) -> Matrix:
    """Draw a Gaussian random projection (dims, width) that keeps squared lengths in expectation.

    Reference: W. Johnson and J. Lindenstrauss, Contemp. Math. 26, 1984.
    """
    matrix: Matrix = np.random.default_rng(seed).normal(size=(dims, width)) / np.sqrt(width)
    return matrix


def nearest_centres(points: Array, centres: Matrix, count: int) -> IntArray:
    """Find the nearest centres of each point; of equally near centres, the lower number is first.

    Distances are float64, rounded to a grid. The result for a point then does not depend on the
    other points of its block.

    Parameters
    ----------
    points : (n, w) points.
    centres : (c, w) centres.
    count : number of centres to return per point, at most c.

    Returns
    -------
    Numbers of the centres (n, count) int64, nearest first.
    """
    norms = np.einsum("ij,ij->i", centres, centres)
    result = np.empty((len(points), count), dtype=np.int64)
    step = max(1, TILE_VALUES // len(centres))
    for start in range(0, len(points), step):
        tile = points[start : start + step].astype(np.float64)
        scale = np.einsum("ij,ij->i", tile, tile) + norms.max() + np.finfo(np.float64).tiny
        # The point's own norm is left out: it is equal for all centres.
        relative = (norms - 2.0 * (tile @ centres.T)) / scale[:, None]
        # These integers sort by distance, then by the centre's number.
        keys = np.rint(relative / _GRID).astype(np.int64) * len(centres) + np.arange(len(centres))
        if count == 1:
            keys = keys.min(axis=1, keepdims=True)
        elif count < len(centres):
            keys = np.partition(keys, count - 1, axis=1)[:, :count]
        result[start : start + step] = np.sort(keys, axis=1) % len(centres)
    return result


def bisection_order(centres: Matrix) -> IntArray:
    """Order clusters so that clusters with near centres are next to each other.

    The method is recursive bisection along the first principal direction of the centres.

    Parameters
    ----------
    centres : (c, w) centres of the clusters.

    Returns
    -------
    Rank (c,) int64 of each cluster in the order.
    """
    return inverse_permutation(_bisect(centres.astype(np.float64), np.arange(len(centres))))


def slice_bounds(
    parts: Iterable[IntArray], sizes: IntArray, starts: IntArray
) -> Iterator[IntArray]:
    """Count the rows of each part that come before each of the positions ``starts``.

    The row order is by cluster, then by part, then by position in the part. Each part stores its
    rows in this order, so the rows between two positions are consecutive in every part.

    Parameters
    ----------
    parts : for each part, the number of its rows (c,) in each of the c clusters.
    sizes : (c,) number of rows of each cluster in all parts together.
    starts : (m,) m ascending positions in the row order, 0 … number of rows.

    Yields
    ------
    For each part, the number of its rows (m,) before each position.
    """
    before_cluster = np.concatenate([[0], np.cumsum(sizes)])
    # The position behind the last row belongs to the last cluster.
    cluster = np.searchsorted(before_cluster, starts, side="right") - 1
    cluster = np.minimum(cluster, len(sizes) - 1)
    inside = starts - before_cluster[cluster]
    for counts in parts:
        own = np.cumsum(counts) - counts
        yield own[cluster] + np.clip(inside, 0, counts[cluster])
        inside = inside - counts[cluster]


def _bisect(centres: Matrix, members: IntArray) -> IntArray:
    """Return the clusters ``members`` in bisection order; see `bisection_order`."""
    if len(members) <= 2:
        return members
    own = centres[members] - centres[members].mean(axis=0)
    direction = np.linalg.svd(own, full_matrices=False)[2][0]
    # A singular vector has an arbitrary sign: make its largest entry positive.
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))] or 1.0)
    ordered = members[np.argsort(own @ direction, kind="stable")]
    middle = len(ordered) // 2
    return np.concatenate([_bisect(centres, ordered[:middle]), _bisect(centres, ordered[middle:])])
