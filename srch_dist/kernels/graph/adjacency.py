"""Adjacency of a block of rows: undirected edges, degrees, weights C (Eq. 6), components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from srch_dist.kernels.types import IntArray

# Cap and power of the share of mutual edges in `modality_weights`. The cap is about the share of a
# Gaussian cloud in five dimensions. A larger share reflects low intrinsic dimension, not quality.
_SHARE_CAP, _SHARE_POWER = 0.65, 3
# Edges per call of `component_stars`, which sorts their ends and needs many times their bytes.
CONNECTED_EDGES = 1 << 22


@dataclass(frozen=True)
class Adjacency:
    """Undirected edges of consecutive rows as CSR; the neighbours of each row are ascending.

    Attributes
    ----------
    indptr : (rows + 1,) int64 CSR row pointers.
    indices : (edges,) int64 row numbers of the neighbours in the training set.
    members : (edges, modalities) bool, true if the modality's graph has the edge.
    """

    indptr: IntArray
    indices: IntArray
    members: NDArray[np.bool_]

    def rows(self, start: int, stop: int) -> Adjacency:
        """Return the edges of the rows ``start`` … ``stop`` - 1, with ``indptr`` from 0."""
        low, high = self.indptr[start], self.indptr[stop]
        return Adjacency(
            self.indptr[start : stop + 1] - low, self.indices[low:high], self.members[low:high]
        )


def directed_pairs(neighbours: IntArray, first_row: int) -> tuple[IntArray, IntArray]:
    """List the directed edges of a neighbour table.

    Parameters
    ----------
    neighbours : (n, k) row numbers of each row's k neighbours; -1 marks a missing neighbour.
    first_row : number of the table's first row.

    Returns
    -------
    Two arrays (edges,): the row number at the start of each edge, and the neighbour's row number.
    """
    rows = np.repeat(np.arange(first_row, first_row + len(neighbours)), neighbours.shape[1])
    flat = neighbours.ravel().astype(np.int64)
    return rows[flat >= 0], flat[flat >= 0]


def symmetrise(outgoing: IntArray, incoming: IntArray, mutual: bool) -> IntArray:
    """Make undirected edges (Eq. 1) from the outgoing and the incoming edges of the rows.

    Parameters
    ----------
    outgoing, incoming : sorted distinct edge keys ``row * n + neighbour``, for n training rows.
    mutual : true keeps edges that exist in both directions; false keeps edges that exist in at
        least one direction (union).

    Returns
    -------
    Sorted distinct edge keys.
    """
    if mutual:
        return np.intersect1d(outgoing, incoming)
    return _merge_sorted([outgoing, incoming])


def distinct(values: IntArray) -> IntArray:
    """Return the distinct values, ascending.

    For millions of scattered keys, sorting is a hundred times as fast as `np.unique`, which hashes
    integers.
    """
    return _without_repeats(np.sort(values))


def build_adjacency(keys: Sequence[IntArray], rows: int, n: int) -> Adjacency:
    """Build one adjacency (CSR) from the edges of all modalities.

    Parameters
    ----------
    keys : for each modality, its sorted edge keys ``row * n + neighbour``. ``row`` is counted from
        the first row of the block; ``neighbour`` is the row number in the training set.
    rows : number of rows of the block.
    n : number of rows of the training set.
    """
    merged = _merge_sorted(keys)
    members = np.zeros((len(merged), len(keys)), dtype=np.bool_)
    for modality, part in enumerate(keys):
        members[np.searchsorted(merged, part), modality] = True
    indptr = np.searchsorted(merged, np.arange(rows + 1) * n).astype(np.int64)
    return Adjacency(indptr, np.remainder(merged, n, out=merged), members)


def degrees(adjacency: Adjacency) -> NDArray[np.int32]:
    """Count the edges of each row in each modality's graph: degrees (rows, modalities) int32."""
    rows, modalities = len(adjacency.indptr) - 1, adjacency.members.shape[1]
    result = np.zeros((rows, modalities), dtype=np.int32)
    for modality in range(modalities):
        counts = np.cumsum(adjacency.members[:, modality], dtype=np.int64)
        before = np.zeros(rows + 1, dtype=np.int64)
        later = adjacency.indptr > 0
        before[later] = counts[adjacency.indptr[later] - 1]
        result[:, modality] = np.diff(before)
    return result


def edge_weights(
    adjacency: Adjacency,
    own_degrees: NDArray[Any],
    neighbour_degrees: NDArray[Any],
    mean: NDArray[Any],
) -> NDArray[np.float32]:
    """Compute the weights C_g = mean degree / √(a_i a_j) (Eq. 6), with a_i the degree of row i.

    Parameters
    ----------
    own_degrees : (rows, modalities) degrees of the rows.
    neighbour_degrees : (edges, modalities) degrees of the neighbour row of each edge.
    mean : (modalities,) mean degree over all training rows.

    Returns
    -------
    Weights (edges, modalities) float32, zero if the modality's graph lacks the edge.
    """
    owner = np.repeat(np.arange(len(own_degrees)), np.diff(adjacency.indptr))
    product = own_degrees[owner].astype(np.float64) * neighbour_degrees
    weights = mean / np.sqrt(np.where(adjacency.members, product, 1.0))
    return np.where(adjacency.members, weights, 0.0).astype(np.float32)


def modality_weights(shares: NDArray[Any]) -> NDArray[np.float64]:
    """Weight each modality by min(s, 0.65)³, with s the share of its edges that are mutual.

    Two rows are seldom mutual neighbours by chance. A low share therefore shows that a modality is
    noisy; no labels are needed.

    Parameters
    ----------
    shares : (modalities,) share of directed edges whose reverse is an edge too.

    Returns
    -------
    Weights (modalities,) whose sum is the number of modalities; all 1 if every share is 0.
    """
    trust = np.minimum(shares, _SHARE_CAP) ** _SHARE_POWER
    if not trust.any():
        return np.ones(len(shares))
    weights: NDArray[np.float64] = len(shares) * trust / trust.sum()
    return weights


def component_stars(nodes: IntArray, others: IntArray) -> IntArray:
    """Find connected components; link each node to the lowest-numbered node of its component.

    The links (stars) are edges too, so another call can connect the concatenated links of several
    blocks. If all edges of n rows are given, there are n - (number of links) components.

    Parameters
    ----------
    nodes, others : (edges,) both ends of each edge.

    Returns
    -------
    (links, 2) int64: a node, and the lowest-numbered node of its component. A lowest-numbered node
    is not linked to itself.
    """
    touched, compact = np.unique(np.concatenate([nodes, others]), return_inverse=True)
    if len(touched) == 0:
        return np.empty((0, 2), dtype=np.int64)
    ends = compact.reshape(2, -1)
    graph = scipy.sparse.coo_array(
        (np.ones(ends.shape[1], dtype=np.int8), (ends[0], ends[1])), shape=(len(touched),) * 2
    )
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    # `touched` is sorted, so the first node of a label is its lowest.
    _, first = np.unique(labels, return_index=True)
    lowest = touched[first][labels]
    stars: IntArray = np.stack([touched, lowest], axis=1)[touched != lowest]
    return stars


def connect_rows(adjacency: Adjacency, first_row: int) -> IntArray:
    """Compute `component_stars` of an adjacency, `CONNECTED_EDGES` edges at a time.

    Parameters
    ----------
    first_row : number of the adjacency's first row in the training set.
    """
    stars = np.empty((0, 2), dtype=np.int64)
    count = len(adjacency.indices)
    for start in range(0, count, CONNECTED_EDGES):
        stop = min(start + CONNECTED_EDGES, count)
        own = np.searchsorted(adjacency.indptr, np.arange(start, stop), side="right") - 1
        stars = component_stars(
            np.concatenate([stars[:, 0], first_row + own]),
            np.concatenate([stars[:, 1], adjacency.indices[start:stop]]),
        )
    return stars


def _merge_sorted(parts: Sequence[IntArray]) -> IntArray:
    """Merge sorted arrays and keep distinct values; a stable sort merges them in linear time."""
    return _without_repeats(np.sort(np.concatenate(parts), kind="stable"))


def _without_repeats(values: IntArray) -> IntArray:
    first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]
