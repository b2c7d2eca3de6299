"""Exact k nearest neighbours between blocks of rows; results do not depend on the block shapes.

faiss is not used here, because it computes in float32, drops rows with NaN, pads missing
neighbours, and does not order float64 ties by row number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array

# Tile of the distance matrix: 1024 × 4096 float32 values are 16 MiB.
QUERY_TILE, ROW_TILE = 1024, 4096
# float64 values of candidate differences in memory at once: 512 KiB, which stay in the cache. That
# is three times as fast as 32 MiB.
REFINE_VALUES = 1 << 16
# Neighbours beyond k that an NN-descent index of all rows keeps. They raise recall@k: on icons151k,
# where most titles have duplicates, from 0.954 with 5 to 0.968 with 10. They also include ties,
# which float64 distances and row numbers then order.
SPARE_WHOLE = 10


@dataclass
class Neighbours(Sized):
    """The k nearest candidates of each of n rows, sorted by distance, then by row number.

    Attributes
    ----------
    distances : (n, k) float64 squared Euclidean distances; inf if there are fewer candidates.
    rows : (n, k) int64 row numbers; -1 if there are fewer candidates.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, k: int) -> Neighbours:
        """Make neighbours for n rows without candidates: distances inf, row numbers -1."""
        return cls(np.full((n, k), np.inf), np.full((n, k), -1, dtype=np.int64))


def merge_exact(
    best: Neighbours,
    queries: Array,
    query_rows: NDArray[np.int64],
    block: Array,
    block_rows: NDArray[np.int64],
) -> Neighbours:
    """Merge the rows of ``block`` into the k nearest neighbours of ``queries``, exactly.

    First, a product in float32 selects all rows that may be among the k nearest. The selection
    allows for the product's rounding error. Then the distances of the selected rows are computed
    pair by pair in float64. Of equal distances, the lower row number comes first. Any order and
    shape of blocks therefore gives the same result, to the bit.

    Parameters
    ----------
    best : the (m, k) nearest neighbours so far.
    queries : (m, d) finite rows.
    query_rows : (m,) distinct row numbers of the queries. A row is not its own neighbour.
    block : (r, d) finite rows.
    block_rows : (r,) distinct row numbers of the block, in any order.
    """
    parts = []
    for start in range(0, len(queries), QUERY_TILE):
        own = slice(start, start + QUERY_TILE)
        part = Neighbours(best.distances[own], best.rows[own])
        for offset in range(0, len(block), ROW_TILE):
            tile = slice(offset, offset + ROW_TILE)
            part = _merge_tile(part, queries[own], query_rows[own], block[tile], block_rows[tile])
        parts.append(part)
    return Neighbours(
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.rows for part in parts]),
    )


def candidate_distances(
    queries: Array, query_index: NDArray[Any], block: Array, block_index: NDArray[Any]
) -> NDArray[np.float64]:
    """Compute squared Euclidean distances of m pairs of rows, in float64.

    The distance of a pair is summed alone, so it does not depend on the other pairs.

    Parameters
    ----------
    queries, block : (n, d) and (r, d) rows.
    query_index, block_index : (m,) positions of the two rows of each pair, the first in
        ``queries``, the second in ``block``.

    Returns
    -------
    Distances (m,) float64.
    """
    columns, count = queries.shape[1], len(query_index)
    step = max(1, min(count, REFINE_VALUES // max(1, columns)))
    left, right = (np.empty((step, columns), dtype=rows.dtype) for rows in (queries, block))
    difference, result = np.empty((step, columns)), np.empty(count)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        size = part.stop - part.start
        # "clip" is the mode that writes to ``out`` without a copy; all positions are valid.
        np.take(queries, query_index[part], axis=0, out=left[:size], mode="clip")
        np.take(block, block_index[part], axis=0, out=right[:size], mode="clip")
        np.subtract(left[:size], right[:size], out=difference[:size], dtype=np.float64)
        np.einsum("ij,ij->i", difference[:size], difference[:size], out=result[part])
    return result


def keep_nearest(
    owners: NDArray[np.int64],
    distances: NDArray[np.float64],
    rows: NDArray[np.int64],
    n: int,
    k: int,
) -> Neighbours:
    """Keep the k nearest candidates of each query (owner), by distance, then by row number.

    Parameters
    ----------
    owners, distances, rows : (m,) the query, the distance and the row number of each candidate.
        No pair of owner and row occurs twice.
    n : number of queries; ``owners`` are 0 … n - 1.
    """
    order = np.lexsort((rows, distances, owners))
    owners, distances, rows = owners[order], distances[order], rows[order]
    first = np.searchsorted(owners, np.arange(n))
    rank = np.arange(len(owners)) - first[owners]
    kept = rank < k
    result = Neighbours.empty(n, k)
    result.distances[owners[kept], rank[kept]] = distances[kept]
    result.rows[owners[kept], rank[kept]] = rows[kept]
    return result


def keep_nearest_columns(
    distances: NDArray[np.float64], rows: NDArray[np.int64], k: int
) -> Neighbours:
    """Keep the k nearest candidates of each row, if all rows have the same number of candidates.

    For such rows, this function is much faster than `keep_nearest`.

    Parameters
    ----------
    distances : (n, c) distances of c ≥ k candidates. A repeated candidate counts once.
    rows : (n, c) row numbers of the candidates; -1 marks a missing candidate.
    """
    known = np.where(rows >= 0, distances, np.inf)
    order = np.lexsort((rows, known), axis=1)
    known = np.take_along_axis(known, order, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    known[:, 1:][rows[:, 1:] == rows[:, :-1]] = np.inf
    repeated = np.isinf(known)
    if repeated.any():
        order = np.argsort(repeated, axis=1, kind="stable")
        known = np.take_along_axis(known, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
    kept = np.ascontiguousarray(known[:, :k])
    return Neighbours(kept, np.where(np.isinf(kept), -1, rows[:, :k]))


def _merge_tile(
    best: Neighbours,
    queries: Array,
    query_rows: NDArray[np.int64],
    tile: Array,
    tile_rows: NDArray[np.int64],
) -> Neighbours:
    """Merge one tile of rows into ``best``; see `merge_exact`."""
    k = best.rows.shape[1]
    left, right = queries.astype(np.float32), tile.astype(np.float32)
    left_norms = np.einsum("ij,ij->i", left, left)
    right_norms = np.einsum("ij,ij->i", right, right)
    approximate = left @ right.T
    approximate *= -2.0
    approximate += left_norms[:, None]
    approximate += right_norms
    _, own, place = np.intersect1d(query_rows, tile_rows, assume_unique=True, return_indices=True)
    approximate[own, place] = np.inf
    # Bound of the rounding of products and norms of d terms (N. Higham, Accuracy and Stability of
    # Numerical Algorithms, 2002, chapter 3), doubled for the conversion to float32.
    unit = float(np.finfo(np.float32).eps) * (queries.shape[1] + 8)
    slack = 2.0 * unit * (left_norms + right_norms.max(initial=0.0))
    threshold = best.distances[:, -1] + slack
    near = approximate <= threshold[:, None]
    # Few rows of a later tile are nearer than the k-th so far. An early tile has its own k-th.
    if len(tile) > k and np.count_nonzero(near) > k * len(queries):
        kth = np.partition(approximate, k - 1, axis=1)[:, k - 1]
        near = approximate <= np.minimum(threshold, kth + 2.0 * slack)[:, None]
    near &= np.isfinite(approximate)
    owners, columns = np.divmod(np.flatnonzero(near), len(tile))
    distances = candidate_distances(queries, owners, tile, columns)
    filled = best.rows >= 0
    best_owners = np.nonzero(filled)[0]
    return keep_nearest(
        np.concatenate([best_owners, owners]),
        np.concatenate([best.distances[filled], distances]),
        np.concatenate([best.rows[filled], tile_rows[columns]]),
        len(queries),
        k,
    )
