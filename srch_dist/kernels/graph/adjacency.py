"""Edges of a block of rows: both ends of every directed neighbour, degrees, and weights C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from srch_dist.kernels.types import IntArray

_TRUSTED_SHARE, _SHARE_POWER = 0.65, 3
# Edges that are connected at once: sorting their ends takes many times their bytes.
CONNECTED_EDGES = 1 << 22


@dataclass(frozen=True)
class Adjacency:
    """The undirected edges of a run of rows, each row's neighbours in ascending order.

    Attributes
    ----------
    indptr : (rows + 1,) int64.
    indices : (edges,) int64, row numbers over the whole training set.
    members : (edges, modalities) bool, which modality's graph holds the edge.
    """

    indptr: IntArray
    indices: IntArray
    members: NDArray[np.bool_]

    def rows(self, start: int, stop: int) -> Adjacency:
        """The part of rows ``start`` … ``stop`` - 1, counted from the first row of this one."""
        low, high = self.indptr[start], self.indptr[stop]
        return Adjacency(
            self.indptr[start : stop + 1] - low, self.indices[low:high], self.members[low:high]
        )


def directed_pairs(neighbours: IntArray, first_row: int) -> tuple[IntArray, IntArray]:
    """(row, neighbour) of each directed edge of ``neighbours`` (n, k); -1 is no neighbour."""
    rows = np.repeat(np.arange(first_row, first_row + len(neighbours)), neighbours.shape[1])
    flat = neighbours.ravel().astype(np.int64)
    return rows[flat >= 0], flat[flat >= 0]


def symmetrise(outgoing: IntArray, incoming: IntArray, mutual: bool) -> IntArray:
    """Undirected edges as sorted unique keys, from those of directed edges out of and into rows.

    An edge is found from either end (union) or, where ``mutual``, from both.
    """
    if mutual:
        return np.intersect1d(outgoing, incoming)
    return _merge_sorted([outgoing, incoming])


def distinct(values: IntArray) -> IntArray:
    """The distinct values, ascending.

    np.unique puts integers into a hash table, which for millions of scattered keys takes a
    hundred times as long as this.
    """
    return _without_repeats(np.sort(values))


def build_adjacency(keys: Sequence[IntArray], rows: int, n: int) -> Adjacency:
    """One CSR over the edges of all modalities.

    Parameters
    ----------
    keys : for each modality the sorted edge keys ``row * n + neighbour``, rows
        counted from the first of the block.
    rows : rows of the block; n : rows of the training set.
    """
    merged = _merge_sorted(keys)
    members = np.zeros((len(merged), len(keys)), dtype=np.bool_)
    for modality, part in enumerate(keys):
        members[np.searchsorted(merged, part), modality] = True
    indptr = np.searchsorted(merged, np.arange(rows + 1) * n).astype(np.int64)
    return Adjacency(indptr, np.remainder(merged, n, out=merged), members)


def degrees(adjacency: Adjacency) -> NDArray[np.int32]:
    """Distinct undirected edges of each row in each modality's graph, (rows, modalities)."""
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
    """C_g of Eq. 6, (edges, modalities), zero where the modality's graph lacks the edge.

    ``own_degrees`` is (rows, modalities), ``neighbour_degrees`` (edges, modalities), ``mean``
    (modalities,): the mean degree over all training rows.
    """
    owner = np.repeat(np.arange(len(own_degrees)), np.diff(adjacency.indptr))
    product = own_degrees[owner].astype(np.float64) * neighbour_degrees
    weights = mean / np.sqrt(np.where(adjacency.members, product, 1.0))
    return np.where(adjacency.members, weights, 0.0).astype(np.float32)


def modality_weights(shares: NDArray[Any]) -> NDArray[np.float64]:
    """Weight of each modality, summing to their number, from ``shares`` (modalities,).

    A share is that of the directed edges whose reverse is one too: neighbours found by chance are
    seldom mutual. Beyond `_TRUSTED_SHARE`, about that of a Gaussian cloud of five dimensions, it
    tells a low dimension and not a clean modality.
    """
    trust = np.minimum(shares, _TRUSTED_SHARE) ** _SHARE_POWER
    if not trust.any():
        return np.ones(len(shares))
    weights: NDArray[np.float64] = len(shares) * trust / trust.sum()
    return weights


def component_stars(nodes: IntArray, others: IntArray) -> IntArray:
    """Connect edges (nodes[i], others[i]) and return each node with its component's lowest node.

    The result (m, 2) names every node touched except the lowest of each component, so a list
    of such pairs from several blocks can be connected again; the number of components among n
    rows is n minus the number of pairs at the end.
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
    """`component_stars` of the edges of rows from ``first_row`` on, some millions at a time."""
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
    """The different values of sorted arrays, sorted.

    A stable sort merges sorted runs in linear time.
    """
    return _without_repeats(np.sort(np.concatenate(parts), kind="stable"))


def _without_repeats(values: IntArray) -> IntArray:
    fresh = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return values[fresh]
