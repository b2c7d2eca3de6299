"""Exact nearest neighbours of a block among another block, whatever the block shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array

# Tiles of the distance matrix: 1024 × 4096 float32 values are 16 MiB.
_QUERY_TILE, _ROW_TILE = 1024, 4096
# Candidate differences refined at once: this many float64 values (512 KiB) stay in the cache,
# which makes it three times as fast as 32 MiB.
REFINE_VALUES = 1 << 16
# Rows from which principal directions are worked out; these are counted by whole vector registers.
_PRINCIPAL_ROWS, _LANES = 1 << 14, 32


@dataclass
class Neighbours(Sized):
    """The best candidates so far, sorted by distance, then by row number.

    Attributes
    ----------
    distances : (n, k) float64, squared Euclidean; inf where there are fewer than k.
    rows : (n, k) int64 row numbers; -1 where there are fewer than k.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, k: int) -> Neighbours:
        """No candidate yet for any of n rows."""
        return cls(np.full((n, k), np.inf), np.full((n, k), -1, dtype=np.int64))


def merge_exact(
    best: Neighbours,
    queries: Array,
    query_rows: NDArray[np.int64],
    block: Array,
    block_rows: NDArray[np.int64],
) -> Neighbours:
    """Take the rows of ``block`` into the k nearest of ``queries``, exactly.

    A float32 product finds every candidate that may be among the k nearest, allowing for its
    rounding; their distances are then worked out row by row in float64 and ties go to the lower
    row number. The result is therefore the same for every order and shape of blocks.

    Parameters
    ----------
    best : candidates so far; k is its width.
    queries : (m, d); query_rows : (m,), their row numbers, which are left out as neighbours.
    block : (r, d); block_rows : (r,), their row numbers, in any order.
    """
    parts = []
    for start in range(0, len(queries), _QUERY_TILE):
        own = slice(start, start + _QUERY_TILE)
        part = Neighbours(best.distances[own], best.rows[own])
        for offset in range(0, len(block), _ROW_TILE):
            tile = slice(offset, offset + _ROW_TILE)
            part = _merge_tile(part, queries[own], query_rows[own], block[tile], block_rows[tile])
        parts.append(part)
    return Neighbours(
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.rows for part in parts]),
    )


def candidate_distances(
    queries: Array, query_index: NDArray[Any], block: Array, block_index: NDArray[Any]
) -> NDArray[np.float64]:
    """Squared distances (m,) of the pairs queries[query_index], block[block_index], in float64.

    Each pair is summed on its own, so a pair has one value wherever it is worked out.
    """
    columns, count = queries.shape[1], len(query_index)
    step = max(1, min(count, REFINE_VALUES // max(1, columns)))
    left, right = (np.empty((step, columns), dtype=rows.dtype) for rows in (queries, block))
    difference, result = np.empty((step, columns)), np.empty(count)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        size = part.stop - part.start
        # Every row is there; the mode is the one that writes to ``out`` without a copy.
        np.take(queries, query_index[part], axis=0, out=left[:size], mode="clip")
        np.take(block, block_index[part], axis=0, out=right[:size], mode="clip")
        np.subtract(left[:size], right[:size], out=difference[:size], dtype=np.float64)
        np.einsum("ij,ij->i", difference[:size], difference[:size], out=result[part])
    return result


def principal_subspace(features: Array, share: float) -> NDArray[np.float64]:
    """Leading principal directions (d, r) of rows (n, d) with ``share`` of their variance.

    r is a multiple of 32 where d is; at most 16,384 rows, evenly apart, stand for all.
    """
    sample = features[:: -(-len(features) // _PRINCIPAL_ROWS)]
    mean = sample.mean(axis=0, dtype=np.float64)
    gram = np.zeros((len(mean), len(mean)))
    for start in range(0, len(sample), _QUERY_TILE):
        own = sample[start : start + _QUERY_TILE] - mean
        gram += own.T @ own
    variances, directions = np.linalg.eigh(gram)
    kept = np.cumsum(variances[::-1]) / max(variances.sum(), np.finfo(np.float64).tiny)
    count = int(np.searchsorted(kept, share)) + 1
    return np.ascontiguousarray(directions[:, ::-1][:, : -(-count // _LANES) * _LANES])


def keep_nearest(
    owners: NDArray[np.int64],
    distances: NDArray[np.float64],
    rows: NDArray[np.int64],
    n: int,
    k: int,
) -> Neighbours:
    """The k nearest (by distance, then row number) candidates of each owner 0 … n-1.

    ``owners``, ``distances`` and ``rows`` are (m,): one entry a candidate, no pair twice.
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
    """The k nearest (by distance, then row number) of each line of candidates (n, c), c ≥ k.

    -1 is no candidate; one that stands in a line several times, always at one distance, counts
    once. As `keep_nearest`, but for candidates in a table, which is several times faster.
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
    """`merge_exact` for one tile."""
    k = best.rows.shape[1]
    left, right = queries.astype(np.float32), tile.astype(np.float32)
    left_norms = np.einsum("ij,ij->i", left, left)
    right_norms = np.einsum("ij,ij->i", right, right)
    approximate = left_norms[:, None] + right_norms[None, :] - 2.0 * (left @ right.T)
    _, own, place = np.intersect1d(query_rows, tile_rows, assume_unique=True, return_indices=True)
    approximate[own, place] = np.inf
    # Rounding of the products and norms of d terms (Higham, ch. 3), doubled for the conversion.
    unit = float(np.finfo(np.float32).eps) * (queries.shape[1] + 8)
    slack = 2.0 * unit * (left_norms + right_norms.max(initial=0.0))
    threshold = best.distances[:, -1].copy()
    if len(tile) > k:
        kth = np.partition(approximate, k - 1, axis=1)[:, k - 1]
        threshold = np.minimum(threshold, kth + slack)
    owners, columns = np.nonzero(approximate <= (threshold + slack)[:, None])
    finite = np.isfinite(approximate[owners, columns])
    owners, columns = owners[finite], columns[finite]
    distances = candidate_distances(queries, owners, tile, columns)
    filled = best.rows >= 0
    own_rows = np.nonzero(filled)[0]
    return keep_nearest(
        np.concatenate([own_rows, owners]),
        np.concatenate([best.distances[filled], distances]),
        np.concatenate([best.rows[filled], tile_rows[columns]]),
        len(queries),
        k,
    )
