"""Search of neighbours in small overlapping groups of rows, one dense product per group.

Rows are split into *leaves* of a few near rows, and near leaves form a *node*. Every row visits the
leaves with the nearest centroids; the rows that visit a leaf are its *members*. All members of a
leaf are compared with each other. Members of a leaf are near each other, so few comparisons find
most neighbours, and a matrix product makes them cheap.

The design is that of PiPNN (T. Rubel et al., "PiPNN: Ultra-scalable graph-based nearest neighbor
indexing", 2026), with leaves from a k-means tree in place of random leaders.

Points are float32. Their last column holds half of the squared norm, so that a product of two
points with opposite signs gives half of a squared distance; see `with_norms`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.types import IntArray

Points = NDArray[np.float32]

# Most rows of a leaf, unless k needs more, and of a node.
_LEAF_ROWS, NODE_ROWS = 32, 512
# A row chooses `ROW_NODES` of the `NEAR_NODES` nodes nearest to its own, and its leaves among those
# of the chosen nodes. On 300,000 generated rows with 14 leaves per row, 95.3 % of the neighbours
# then share a leaf with their row; 95.5 % do if a row chooses among all leaves.
NEAR_NODES, ROW_NODES = 384, 24
# Rows that choose their leaves at once.
VISITING_ROWS = 1 << 13
# Most leaves of a node.
NODE_LEAVES = 32
# A leaf has at least this share of its largest size, and a node of its.
_LEAST_SHARE = 0.5
# Most members of a leaf, as a number of bits, unless k needs more. The bits replace the lowest of
# the 23 bits of a distance's mantissa, so a distance keeps a precision of 2⁻¹³.
_MEMBER_BITS = 10
# Most parts of one split, rows per part that k-means reads, and its iterations.
_BRANCHES, _SAMPLED, _ITERATIONS = 256, 32, 5
# Visits whose points a task reads at once. It bounds memory: at most 2¹⁷ rows are read.
GROUP_VISITS = 1 << 17
# Candidates beyond k whose distances are measured in all dimensions. The subspace orders them only
# roughly, and ties are among them.
_SPARE = 6
# Feature values of the rows whose candidates are measured at once, and most and fewest rows.
_REFINED_VALUES, _REFINED_ROWS = 1 << 24, (256, 1 << 15)
# Bytes of the features of such rows and their candidates. If there are more, the rows are halved.
MEASURED_BYTES = 1 << 28
# Rows that are compared with all members of a leaf, or with all centres, at once.
TILE_ROWS = 256
# Bits of the position of a leaf among those of the nodes that a row chose.
VISIT_BITS = (ROW_NODES * NODE_LEAVES - 1).bit_length()
# Rows whose candidates are sorted at once.
_MERGED_ROWS = 1024
# Key of a row's own leaf without its position: the bits of a float32 below 0. They sort first.
_FIRST = np.float32(-1e38).view(np.int32) >> 16 << 16
# Largest key, and largest number: those of no candidate.
ABSENT, _NUMBER = np.int32(0x7FFFFFFF), 0x7FFFFFFF
NO_CANDIDATE = (int(ABSENT) << 32) | _NUMBER


def leaf_rows(k: int) -> int:
    """Choose the most rows of a leaf. Half of a leaf has more than ``k`` rows."""
    return max(_LEAF_ROWS, 2 * (k + 1))


def member_bits(k: int) -> int:
    """Choose the number of bits that count the members of a leaf; see `search_leaf`."""
    return max(_MEMBER_BITS, int(4 * (k + 1)).bit_length())


def kept_candidates(k: int) -> int:
    """Choose the number of candidates whose distances are measured in all dimensions."""
    return k + _SPARE


def refined_rows(dims: int) -> int:
    """Choose the number of rows whose candidates are measured at once."""
    fewest, most = _REFINED_ROWS
    return max(fewest, min(most, _REFINED_VALUES // dims))


def with_norms(points: Points) -> Points:
    """Append half of the squared norm to the points (n, r); return (n, r + 1)."""
    result = np.empty((len(points), points.shape[1] + 1), dtype=np.float32)
    result[:, :-1] = points
    result[:, -1] = 0.5 * np.einsum("ij,ij->i", points, points)
    return result


def split_points(points: Points, size: int) -> list[IntArray]:
    """Split points into parts of near points, by k-means and bisection.

    The result depends on nothing but the points and their order.

    Parameters
    ----------
    points : (n, r) points, without norms.
    size : most points of a part. If n is at least half of it, so is every part.

    Returns
    -------
    Positions (m,) of the points of each part, ascending; near parts follow each other.
    """
    parts: list[IntArray] = []
    pending = [np.arange(len(points))]
    while pending:
        members = pending.pop()
        if len(members) <= size:
            parts.append(members)
        else:
            own = points[members]
            labels = _bisect(own) if len(own) <= 4 * size else _partition(own, size)
            order = np.argsort(labels, kind="stable")
            ends = np.cumsum(np.bincount(labels))[:-1]
            pending.extend(part for part in np.split(members[order], ends)[::-1] if len(part))
    return parts


def k_means(points: Points, count: int) -> Points:
    """Compute at most ``count`` centres of points (n, r) by k-means on evenly spaced points.

    The result depends on nothing but the points and their order.
    """
    sample = points[:: max(1, len(points) // (count * _SAMPLED))]
    count = min(count, len(sample))
    centres = sample[np.arange(count) * len(sample) // count].copy()
    for _ in range(_ITERATIONS):
        labels = _nearest(sample, centres)
        order = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels, minlength=count)
        filled = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[filled]
        sums = np.add.reduceat(sample[order], starts, axis=0)
        centres[filled] = sums / sizes[filled, None].astype(np.float32)
    return centres


def centroids(points: Points, ends: IntArray) -> Points:
    """Compute the mean of consecutive points, and its norm.

    Parameters
    ----------
    points : (n, r) points, without norms.
    ends : (m + 1,) first point of each of m groups, then n. No group is empty.
    """
    counts = np.diff(ends).astype(np.float32)
    means = np.add.reduceat(points, ends[:-1], axis=0) / counts[:, None]
    return with_norms(means.astype(np.float32, copy=False))


def nearest_nodes(nodes: Points, own: IntArray, count: int) -> IntArray:
    """Find the nodes with the nearest centroids, for some of the nodes.

    Parameters
    ----------
    nodes : (m, r + 1) centroids with norms, m ≥ ``count``.
    own : (n,) positions of some nodes. Each is among its own nearest, even if more than ``count``
        centroids are equal.

    Returns
    -------
    Positions (n, count) in ``nodes``, ascending.
    """
    half = _half_distances(nodes[own], nodes)
    half[np.arange(len(own)), own] = -1e38
    return np.sort(np.argpartition(half, count - 1, axis=1)[:, :count], axis=1)


def nearest_centroids(queries: Points, centroids: Points, count: int, home: IntArray) -> IntArray:
    """Find the centroids nearest to each query, its own among them.

    Parameters
    ----------
    queries : (n, r + 1) points with norms.
    centroids : (m, r + 1) centroids with norms, m ≥ ``count``.
    home : (n,) position in ``centroids`` of each query's own.

    Returns
    -------
    Positions (n, count) in ``centroids``, in no order.
    """
    bits = int(len(centroids) - 1).bit_length()
    keys = _keys(queries, centroids, bits)
    keys[np.arange(len(queries)), home] = _FIRST | home
    keys.partition(count - 1, axis=1)
    return (keys[:, :count] & np.int32((1 << bits) - 1)).astype(np.int64)


def visit_keys(
    points: Points,
    chosen: IntArray,
    leaves: Callable[[int], Points],
    own: tuple[IntArray, IntArray],
) -> NDArray[np.int32]:
    """Compute a key for each leaf of the nodes that each row chose; smaller keys are nearer.

    Parameters
    ----------
    points : (n, r + 1) points with norms.
    chosen : (n, c) numbers of the nodes that each row chose, c ≤ `ROW_NODES`.
    leaves : returns the centroids (m, r + 1) of the leaves of a node, by the node's number.
    own : (n,) column of each row's own node in ``chosen``; and (n,) its own leaf in this node.

    Returns
    -------
    Keys (n, c * `NODE_LEAVES`) int32. The lowest `VISIT_BITS` bits are column * `NODE_LEAVES` +
    leaf. The others are those of the half squared distance as float32. It is negative for a row's
    own leaf, and the key is `ABSENT` for no leaf.
    """
    n, columns = chosen.shape
    keys = np.full((n, columns, NODE_LEAVES), ABSENT, dtype=np.int32)
    flat = chosen.ravel()
    order = np.argsort(flat, kind="stable")
    starts = np.flatnonzero(np.diff(flat[order], prepend=-1, append=-1))
    for low, high in pairwise(starts.tolist()):
        rows, column = np.divmod(order[low:high], columns)
        centroids = leaves(int(flat[order[low]]))
        found = _half_distances(points[rows], centroids).view(np.int32)
        found &= np.int32(-1 << VISIT_BITS)
        found |= (column * NODE_LEAVES).astype(np.int32)[:, None]
        found |= np.arange(len(centroids), dtype=np.int32)
        keys[rows, column, : len(centroids)] = found
    keys[np.arange(n), own[0], own[1]] = _FIRST | (own[0] * NODE_LEAVES + own[1])
    return keys.reshape(n, -1)


def search_members(
    points: Points, numbers: IntArray, members: IntArray, k: int
) -> NDArray[np.int64]:
    """Find the k nearest other members of each member of a leaf, or all if there are fewer.

    Parameters
    ----------
    points : (n, r + 1) points with norms.
    numbers : (n,) their numbers, below 2³¹ - 1.
    members : (m,) positions of the leaf's members in ``points``.

    Returns
    -------
    Packed candidates (m, at most k), in no order; see `pack_candidates`.
    """
    count, bits = min(k, len(members) - 1), member_bits(k)
    if count <= 0:
        return absent_candidates(len(members), 0)
    keys = search_leaf(points[members], count, bits)
    return pack_candidates(keys, numbers[members], bits)


def search_leaf(points: Points, count: int, bits: int) -> NDArray[np.int32]:
    """Find the ``count`` nearest other members of each member of a leaf.

    Parameters
    ----------
    points : (m, r + 1) points with norms; ``count`` < m < 2 ** ``bits``.
    bits : number of bits of a position in the leaf.

    Returns
    -------
    Keys (m, count) int32, in no order. The lowest ``bits`` bits of a key are the position of the
    neighbour. The other bits are those of the half squared distance, as float32: positive floats
    and their bits have the same order.
    """
    result = np.empty((len(points), count), dtype=np.int32)
    for start in range(0, len(points), TILE_ROWS):
        keys = _keys(points[start : start + TILE_ROWS], points, bits)
        own = np.arange(len(keys))
        keys[own, start + own] = ABSENT
        keys.partition(count - 1, axis=1)
        result[start : start + TILE_ROWS] = keys[:, :count]
    return result


def pack_candidates(keys: NDArray[np.int32], numbers: IntArray, bits: int) -> NDArray[np.int64]:
    """Join distance and number of candidates in one integer that sorts by distance.

    Parameters
    ----------
    keys : (m, count) result of `search_leaf`.
    numbers : (members,) number of each member of the leaf, below 2³¹ - 1.
    """
    distances = np.maximum(keys & np.int32(-1 << bits), 0).astype(np.int64)
    packed: NDArray[np.int64] = (distances << 32) | numbers[keys & np.int32((1 << bits) - 1)]
    return packed


def absent_candidates(rows: int, count: int) -> NDArray[np.int64]:
    """Make packed candidates (rows, count) that stand for none; see `candidate_numbers`."""
    return np.full((rows, count), NO_CANDIDATE, dtype=np.int64)


def candidate_numbers(packed: NDArray[np.int64]) -> IntArray:
    """Return the numbers of packed candidates; -1 is no candidate."""
    return np.where(packed == NO_CANDIDATE, -1, packed & _NUMBER)


def nearest_candidates(packed: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Keep the ``count`` nearest distinct candidates of each row, in no order.

    Parameters
    ----------
    packed : (n, c) candidates, c ≥ ``count``, from `pack_candidates`. A number may repeat, with
        another distance if rounding differs.
    """
    result = np.empty((len(packed), count), dtype=np.int64)
    for start in range(0, len(packed), _MERGED_ROWS):
        tile = packed[start : start + _MERGED_ROWS]
        by_number = ((tile & _NUMBER) << 32) | (tile >> 32)
        by_number.sort(axis=1)
        repeated = by_number[:, 1:] >> 32 == by_number[:, :-1] >> 32
        by_distance = ((by_number & _NUMBER) << 32) | (by_number >> 32)
        by_distance[:, 1:][repeated] = NO_CANDIDATE
        by_distance.partition(count - 1, axis=1)
        result[start : start + _MERGED_ROWS] = by_distance[:, :count]
    return result


def _keys(queries: Points, points: Points, bits: int) -> NDArray[np.int32]:
    """Compute a key (n, m) for each query and point; see `search_leaf`."""
    keys = _half_distances(queries, points).view(np.int32)
    keys &= np.int32(-1 << bits)
    keys |= np.arange(len(points), dtype=np.int32)
    return keys


def _half_distances(queries: Points, points: Points) -> Points:
    """Compute half of the squared distances (n, m); both have norms in the last column."""
    left = -queries
    left[:, -1] = 1.0
    half: Points = left @ points.T
    half += queries[:, -1:]
    return half


def _bisect(points: Points) -> IntArray:
    """Label the halves of points along a wide direction with 0 and 1."""
    centred = points - points.mean(axis=0)
    direction = centred[np.argmax(np.einsum("ij,ij->i", centred, centred))]
    for _ in range(3):  # the power method
        direction = centred.T @ (centred @ direction)
        length = np.sqrt(direction @ direction)
        if length == 0:  # all points are equal
            break
        direction = direction / length
    labels = np.zeros(len(points), dtype=np.int64)
    labels[np.argsort(centred @ direction, kind="stable")[len(points) // 2 :]] = 1
    return labels


def _partition(points: Points, size: int) -> IntArray:
    """Label points by their nearest k-means centre; small parts join the nearest part."""
    count = min(_BRANCHES, -(-len(points) // size))
    centres = k_means(points, count)
    labels = _nearest(points, centres)
    sizes = np.bincount(labels, minlength=count)
    least = _LEAST_SHARE * size
    joined = np.arange(count)
    squared = ((centres[:, None] - centres) ** 2).sum(axis=2) if count <= 64 else None
    for small in np.argsort(sizes, kind="stable"):
        if not 0 < sizes[small] < least:
            continue
        gaps = ((centres - centres[small]) ** 2).sum(axis=1) if squared is None else squared[small]
        gaps = np.where(sizes > 0, gaps, np.inf)
        gaps[small] = np.inf
        target = int(np.argmin(gaps))
        if sizes[target] == 0:
            break
        sizes[target] += sizes[small]
        sizes[small] = 0
        joined[joined == small] = target
    labels = joined[labels]
    return labels if np.count_nonzero(sizes) > 1 else _bisect(points)


def _nearest(points: Points, centres: Points) -> IntArray:
    """Find the nearest centre of each point."""
    norms = 0.5 * np.einsum("ij,ij->i", centres, centres)
    step = TILE_ROWS * 4
    return np.concatenate(
        [
            np.argmin(norms - points[start : start + step] @ centres.T, axis=1)
            for start in range(0, len(points), step)
        ]
    )
