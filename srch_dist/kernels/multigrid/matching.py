"""Heavy-edge matching: pair the nodes of a weighted graph along their strongest edges.

Strength of connection is s_ij = w_ij / max(a_ii, a_jj). Nodes are paired along edges that are among
the strongest of both ends, a form of the pairwise aggregation of Y. Notay, Electron. Trans.
Numer. Anal. 37, 2010. All functions work on a tile of edges at a time, to save memory; only the
strengths of all edges are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import edge_tiles
from srch_dist.kernels.multigrid.coarsening import (
    TILE_EDGES,
    concatenate_and_clear,
    entry_rows,
    hash_pairs,
)
from srch_dist.kernels.types import Array, IntArray, Vector

# Rounds in which each free node proposes to its strongest free neighbour.
_ROUNDS = 6
# An edge is strong if its weight is above this share of the diagonal at one or both ends.
_STRONG = 5e-3
# A candidate edge has at least this share of the strength of the strongest edge at both ends.
_CANDIDATE_SHARE = 0.5
# Maximum number of candidate edges per node.
_CANDIDATES = 5
# Strengths that differ by less than this share count as equal; a hash orders them.
_TIES = 1e-6


def match_nodes(
    coupling: scipy.sparse.csr_array, diagonal: Vector, combine: np.ufunc = np.maximum
) -> tuple[IntArray, int]:
    """Aggregate nodes by one matching: pairs, and unmatched nodes that join a pair.

    Two nodes pair up when each is the other's strongest free candidate. An unmatched node joins the
    pair of its strongest neighbour, and otherwise stays alone. A hash of both ends orders equal
    strengths, so that many nodes of a chain with equal weights pair up in one round.

    Candidates are edges that are among the strongest edges of both ends. With weaker candidates, a
    node without a partner in its tight cluster would pair with a node of another cluster. No
    coarser level could then represent the cluster's indicator vector, whose energy is near zero.

    Outer rows are neighbours outside the subdomain. An edge to an outer row may be a node's
    strongest edge, but never makes a pair. A node whose cluster is outside the subdomain therefore
    stays alone.

    Parameters
    ----------
    coupling : (m, m + outer) CSR of non-negative weights between m nodes, and from nodes to outer
        rows; symmetric in its first m columns.
    diagonal : (m + outer,) diagonal of the matrix at nodes and outer rows.
    combine : function of the diagonals at both ends. An edge is strong if its weight is above
        `_STRONG` times the result. With np.maximum, an edge must be strong for both ends; with
        np.minimum, one end is enough.

    Returns
    -------
    The aggregate (m,) int64 of each node, and the number of aggregates. Aggregates are numbered in
    the order of their pair's lower-numbered node.
    """
    count = coupling.shape[0]
    strengths = [
        _strengths(coupling, diagonal, combine, tile)
        for tile in edge_tiles(coupling.indptr, TILE_EDGES)
    ]
    strongest = _strongest(coupling, strengths)
    candidates, best = _strong_edges(coupling, len(diagonal), strengths, strongest)
    leader, free = _pair_up(count, *candidates)
    i, j = best
    joins = free[i] & ~free[j]
    leader[i[joins]] = leader[j[joins]]
    leads = leader == np.arange(count)
    numbers = np.cumsum(leads) - 1
    return numbers[leader], int(np.count_nonzero(leads))


def _strongest(coupling: scipy.sparse.csr_array, strengths: Sequence[Array]) -> Vector:
    """Return the strength (m,) of each node's strongest edge, 0 if none. Outer rows count too.

    ``strengths`` has an array (edges,) per tile; see `_strengths`.
    """
    strongest = np.zeros(coupling.shape[0])
    tiles = edge_tiles(coupling.indptr, TILE_EDGES)
    for tile, strength in zip(tiles, strengths, strict=True):
        starts = coupling.indptr[tile.start : tile.stop] - coupling.indptr[tile.start]
        connected = np.diff(coupling.indptr[tile.start : tile.stop + 1]) > 0
        if connected.any():
            strongest[tile][connected] = np.maximum.reduceat(strength, starts[connected])
    return strongest


def _strong_edges(
    coupling: scipy.sparse.csr_array, ends: int, strengths: list[Array], strongest: Vector
) -> tuple[tuple[NDArray[Any], NDArray[Any], Vector], tuple[NDArray[Any], NDArray[Any]]]:
    """Select candidate edges for pairs, and the edge along which an unmatched node joins a pair.

    ``ends`` is the number of nodes and outer rows. The list ``strengths`` is emptied.

    The first result holds both ends and the strength (edges,) of at most `_CANDIDATES` candidates
    per node, row by row. The second holds both ends of each node's strongest edge; edges to outer
    rows are left out.
    """
    candidates: tuple[list[Any], ...] = ([], [], [])
    best: tuple[list[Any], ...] = ([], [])
    # An infinite maximum at outer rows excludes their edges from the candidates.
    limits = np.concatenate([strongest, np.full(ends - len(strongest), np.inf)])
    for tile in edge_tiles(coupling.indptr, TILE_EDGES):
        strength = strengths.pop(0)
        i = entry_rows(coupling, tile)
        # An edge that is weak for its row is neither.
        near = np.flatnonzero((strength > 0) & (strength >= _CANDIDATE_SHARE * strongest[i]))
        i, strength = i[near], strength[near].astype(np.float64)
        j = coupling.indices[coupling.indptr[tile.start] + near]
        first = np.flatnonzero(strength >= (1 - _TIES) * strongest[i])
        distinct = _distinct_strengths(i[first], j[first], strength[first])
        chosen = first[_strongest_few(i[first], distinct, 1)]
        chosen = chosen[j[chosen] < len(strongest)]
        _append(best, chosen, i, j)
        among = np.flatnonzero(strength >= _CANDIDATE_SHARE * limits[j])
        i, j, strength = i[among], j[among], strength[among]
        strength = _distinct_strengths(i, j, strength)
        _append(candidates, _strongest_few(i, strength, _CANDIDATES), i, j, strength)
    i, j, strength = map(concatenate_and_clear, candidates)
    return (i, j, strength), (concatenate_and_clear(best[0]), concatenate_and_clear(best[1]))


def _strengths(
    coupling: scipy.sparse.csr_array, diagonal: Vector, combine: np.ufunc, rows: slice
) -> NDArray[np.float32]:
    """Compute the strengths (edges,) of the edges of ``rows``; 0 for edges that are not strong."""
    part = slice(coupling.indptr[rows.start], coupling.indptr[rows.stop])
    weights = coupling.data[part]
    own = np.repeat(diagonal[rows], np.diff(coupling.indptr[rows.start : rows.stop + 1]))
    other = diagonal[coupling.indices[part]]
    largest = np.maximum(own, other)
    # The usual function: its result is known already.
    limit = largest if combine is np.maximum else combine(own, other)
    strong = weights > _STRONG * limit
    strength: NDArray[np.float32] = np.divide(weights, largest, out=largest).astype(np.float32)
    strength *= strong
    return strength


def _distinct_strengths(i: NDArray[Any], j: NDArray[Any], strength: Vector) -> Vector:
    """Scale each strength slightly by a hash of both ends, so that equal strengths differ.

    ``i``, ``j`` and ``strength`` are (edges,). Both directions of an edge get the same strength.
    """
    hashes = hash_pairs(np.minimum(i, j), np.maximum(i, j))
    distinct: Vector = strength * (1 + _TIES * hashes)
    return distinct


def _strongest_few(i: NDArray[Any], strength: Vector, few: int) -> NDArray[np.bool_]:
    """Mark the ``few`` strongest edges of each row; return a mask (edges,).

    ``i`` (edges,) is the row of each edge, ascending.
    """
    kept = np.ones(len(i), dtype=np.bool_)
    lengths = _run_lengths(_run_starts(i), len(i))
    # Sorting is the slowest part, so rows with few edges are not sorted.
    crowded = np.flatnonzero(np.repeat(lengths > few, lengths))
    if len(crowded):
        # Strengths are at most about 1, so subtracting half of one keeps the rows in order.
        order = crowded[np.argsort(i[crowded] - 0.5 * strength[crowded], kind="stable")]
        starts = _run_starts(i[order])
        rank = np.arange(len(order)) - np.repeat(starts, _run_lengths(starts, len(order)))
        kept[order] = rank < few
    return kept


def _append(lists: tuple[list[Any], ...], kept: NDArray[Any], *columns: NDArray[Any]) -> None:
    for target, values in zip(lists, columns, strict=True):
        target.append(values[kept])


def _pair_up(
    nodes: int, i: NDArray[Any], j: NDArray[Any], strength: Vector
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Pair nodes that are each other's strongest free candidate, in several rounds.

    ``i``, ``j`` and ``strength`` (edges,) are both ends and the strength of each edge, sorted by
    ``i``. Returns two arrays (nodes,). The first has, for each node, the lower-numbered node of its
    pair, or the number of the unpaired node itself. The second is a mask, true for unpaired nodes.
    """
    leader = np.arange(nodes)
    free = np.ones(nodes, dtype=np.bool_)
    for _ in range(_ROUNDS):
        if len(i) == 0:
            break
        starts = _run_starts(i)
        best = np.maximum.reduceat(strength, starts)
        chosen = strength >= np.repeat(best, _run_lengths(starts, len(i)))
        mate = np.full(nodes, -1)
        mate[i[chosen]] = j[chosen]
        mutual = np.flatnonzero((mate >= 0) & (mate[mate] == np.arange(nodes)))
        leader[mutual] = np.minimum(mutual, mate[mutual])
        free[mutual] = False
        remaining = free[i] & free[j]
        i, j, strength = i[remaining], j[remaining], strength[remaining]
    return leader, free


def _run_starts(values: NDArray[Any]) -> IntArray:
    """Return the position of the first value of each run of equal values."""
    if not len(values):
        return values
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))


def _run_lengths(starts: IntArray, count: int) -> IntArray:
    """Return the length of each run, from the runs' ``starts`` among ``count`` values."""
    return np.diff(np.append(starts, count))
