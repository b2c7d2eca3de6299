"""Aggregates of strongly coupled rows: matching along the heaviest edges, repeated.

The hierarchy follows the edge weights after a rebase, as in aggregation-based multigrid (Notay,
Electron. Trans. Numer. Anal. 37, 2010): two nodes join when each is the other's strongest
neighbour, and what is left over joins a pair. What a row joins depends on the weights and on row
numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.laplacian import edge_tiles
from srch_dist.kernels.sizes import Sized

IntArray = NDArray[np.int64]
Row = NDArray[np.float64]

# Rows that a coarse unknown stands for at least, and the most unknowns of a problem: the dense
# product with their inverse stays below the sparse one with the matrix.
_UNKNOWN_ROWS, _UNKNOWNS = 64, 2048
# Below so many rows, building aggregates costs more than the iterations that they save.
_LEAST_ROWS = 16_384
_PASSES = 14
# Edges that are looked at together.
_TILE_EDGES = 1 << 19
_ROUNDS = 6
# An edge below this share of an end's diagonal couples that end to next to nothing.
_STRONG = 5e-3
# Nodes pair along edges of at least this share of the strongest edge of either end.
_AMONG = 0.5
# A matching after which more than this share of the tied nodes is left is the last; in a zone,
# where what most of them belong to is elsewhere, what remains would join what it hardly knows.
_SHRINK, _ZONE_SHRINK = 0.95, 0.8
# Below this share of its diagonal, what ties an aggregate to others asks for no coarse unknown.
_TIED = 1e-2


@dataclass(frozen=True)
class Hierarchy(Sized):
    """Nested aggregates of some nodes; level 0 is these.

    Attributes
    ----------
    parents : for each level its aggregate (m,) of each node of the level below.
    inverse : for each level how much (m,) its functions are corrected: the inverse diagonal of
        P'AP, less what the levels below correct of them already (all of it where a node is an only
        child). Without that, a function that hardly changes over the levels counts at each.
    top : nodes of the last level that ask for a coarse unknown of their own, ascending.
    """

    parents: tuple[IntArray, ...]
    inverse: tuple[Row, ...]
    top: IntArray


@dataclass(frozen=True)
class Nodes(Sized):
    """Rows or aggregates of rows, with what ties them to each other and to rows elsewhere.

    Attributes
    ----------
    coupling : (m, m + outer), λCS² summed over the edges between two nodes, or a node and a row
        elsewhere.
    diagonal : (m,) of P'AP. mass : (m,), β times the rows of each node.
    corrected : (m,), how much the levels so far correct the nodes' functions.
    outer : (outer,), the diagonal of the rows elsewhere.
    """

    coupling: scipy.sparse.csr_array
    diagonal: Row
    mass: Row
    corrected: Row
    outer: Row

    def __len__(self) -> int:
        return len(self.diagonal)


def coarse_unknowns(rows: int, choice: str) -> int:
    """Coarse unknowns of a problem of n rows by ``solver.coarse``; 0 is plain Jacobi."""
    if choice == "off" or (choice == "auto" and rows < _LEAST_ROWS):
        return 0
    return min(_UNKNOWNS, max(32, rows // _UNKNOWN_ROWS))


def row_nodes(
    coupling: scipy.sparse.csr_array, diagonal: Row, beta: float, outer: Row | None = None
) -> Nodes:
    """Rows as nodes.

    ``coupling`` (rows, rows + outer) is λCS², ``diagonal`` (rows,) that of βI + λH, ``outer``
    (outer,) the same of the rows elsewhere that there are edges to.
    """
    outer = np.empty(0) if outer is None else outer
    return Nodes(coupling, diagonal, np.full(len(diagonal), beta), 1 / diagonal, outer)


def aggregate_zone(nodes: Nodes, least: int) -> tuple[Hierarchy, Nodes]:
    """Aggregate nodes while more than ``least`` are tied to others, and what is left of them.

    A node whose strongest edge goes elsewhere waits, so fewer may be aggregated.
    """
    parents, inverse, left = _aggregate(nodes, least, _ZONE_SHRINK, (np.maximum,))
    return Hierarchy(parents, inverse, np.empty(0, dtype=np.int64)), left


def build_hierarchy(nodes: Nodes, quota: int) -> Hierarchy:
    """Aggregate nodes that have no edge elsewhere until at most ``quota`` are tied to others.

    ``quota`` is the most coarse unknowns. Every matching is a level: since a level corrects only
    what those below leave, leaving some out saves little work and costs iterations.
    """
    # Where no other is left, what remains are nodes that only the smaller of both ends is tied to.
    parents, inverse, left = _aggregate(nodes, quota, _SHRINK, (np.maximum, np.minimum))
    if not parents:
        # A level to carry the coarse unknowns.
        parents, inverse = (np.arange(len(nodes)),), (np.zeros(len(nodes)),)
    tied = _ties(left)
    chosen = np.argsort(-tied, kind="stable")[:quota]
    top = np.sort(chosen[tied[chosen] > _TIED * left.diagonal[chosen]])
    inverse[-1][top] = 0.0
    return Hierarchy(parents, inverse, top)


def _aggregate(
    nodes: Nodes, least: int, shrink: float, ends: tuple[np.ufunc, ...]
) -> tuple[tuple[IntArray, ...], tuple[Row, ...], Nodes]:
    """Parents and inverse of each level (see `Hierarchy`), and the last level's nodes."""
    parents: list[IntArray] = []
    inverse: list[Row] = []
    for _ in range(_PASSES):
        # What is tied to nothing else is as good as it will be, however much of it there is.
        tied = np.count_nonzero(_ties(nodes) > _TIED * nodes.diagonal)
        if tied <= least:
            break
        for end in ends:
            mates, count = match_nodes(nodes, end)
            if len(nodes) - count >= (1 - shrink) * tied:
                break
        else:
            break
        added, nodes = _merge(nodes, mates, count)
        parents.append(mates)
        inverse.append(added)
    return tuple(parents), tuple(inverse), nodes


def _ties(nodes: Nodes) -> Row:
    """What ties each node (nodes,) to others and to rows elsewhere."""
    return nodes.diagonal - nodes.mass


def match_nodes(nodes: Nodes, end: np.ufunc = np.maximum) -> tuple[IntArray, int]:
    """Number of its aggregate (nodes,) of each node, and of aggregates; one node may be one.

    Strength is the weight over the larger diagonal of both ends, ties broken by a hash of the
    ends, so that long runs of equal weights still break into many pairs at once. Nodes pair up
    along edges that are among the strongest of both ends: along any edge, what is left over of a
    tight cluster would pair with nodes that the cluster hardly knows, and the cluster's own
    indicator, whose energy is next to nothing, would be lost on every level above. A node that is
    left over joins the pair of its strongest neighbour instead. ``end`` picks the diagonal of the
    two that an edge has to be felt by.

    Edges to rows elsewhere count among the strongest, and no node pairs along them: what belongs
    to a cluster elsewhere is left alone.
    """
    count = len(nodes)
    i, j, strength, top = _strong_edges(nodes, end)
    among = strength >= _AMONG * top[j]
    leader, free = _pair_up(count, i[among], j[among], strength[among])
    joins = free[i] & ~free[j] & (strength >= top[i])
    leader[i[joins]] = leader[j[joins]]
    leads = leader == np.arange(count)
    numbers = np.cumsum(leads) - 1
    return numbers[leader], int(np.count_nonzero(leads))


def _strong_edges(nodes: Nodes, end: np.ufunc) -> tuple[NDArray[Any], NDArray[Any], Row, Row]:
    """Edges between nodes that are among the strongest of their start, row by row.

    They are both ends (edges,) and strengths (edges,), with the strength (m,) of the strongest
    edge of each node, which may lead elsewhere.
    """
    top = np.zeros(len(nodes))
    found = []
    # Some rows at a time, and of these the strongest alone: edges are what takes memory.
    for tile in edge_tiles(nodes.coupling.indptr, _TILE_EDGES):
        i, j, strength = _felt_edges(nodes, end, tile)
        starts = _run_starts(i)
        if len(i):
            top[i[starts]] = np.maximum.reduceat(strength, starts)
        kept = (j < len(nodes)) & (strength >= _AMONG * top[i])
        found.append((i[kept], j[kept], strength[kept]))
    i, j, strength = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j, strength, top


def _felt_edges(nodes: Nodes, end: np.ufunc, rows: slice) -> tuple[NDArray[Any], NDArray[Any], Row]:
    """Ends (edges,) and strengths (edges,) of the edges of some nodes that are felt."""
    coupling, diagonal = nodes.coupling, np.concatenate([nodes.diagonal, nodes.outer])
    part = slice(coupling.indptr[rows.start], coupling.indptr[rows.stop])
    i, j, weights = _starts_of(coupling, rows), coupling.indices[part], coupling.data[part]
    felt = (weights > _STRONG * end(diagonal[i], diagonal[j])) & (i != j)
    i, j = i[felt], j[felt]
    strength = weights[felt] / np.maximum(diagonal[i], diagonal[j])
    return i, j, strength * (1 + 1e-6 * _hash_pairs(np.minimum(i, j), np.maximum(i, j)))


def _starts_of(coupling: scipy.sparse.csr_array, rows: slice) -> NDArray[Any]:
    """The row (edges,) of each entry of some rows, of the narrow type of the columns."""
    numbers = np.arange(rows.start, rows.stop, dtype=coupling.indices.dtype)
    return np.repeat(numbers, np.diff(coupling.indptr[rows.start : rows.stop + 1]))


def _pair_up(
    nodes: int, i: NDArray[Any], j: NDArray[Any], strength: Row
) -> tuple[IntArray, NDArray[np.bool_]]:
    """The lower number (nodes,) of the pair of each node, and which nodes (nodes,) have none."""
    leader = np.arange(nodes)
    free = np.ones(nodes, dtype=np.bool_)
    for _ in range(_ROUNDS):
        if len(i) == 0:
            break
        starts = _run_starts(i)
        best = np.maximum.reduceat(strength, starts)
        chosen = strength >= np.repeat(best, np.diff(np.append(starts, len(i))))
        mate = np.full(nodes, -1)
        mate[i[chosen]] = j[chosen]
        mutual = np.flatnonzero((mate >= 0) & (mate[mate] == np.arange(nodes)))
        leader[mutual] = np.minimum(mutual, mate[mutual])
        free[mutual] = False
        open_edges = free[i] & free[j]
        i, j, strength = i[open_edges], j[open_edges], strength[open_edges]
    return leader, free


def _run_starts(i: NDArray[Any]) -> IntArray:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], i[1:] != i[:-1]])) if len(i) else i


def _merge(nodes: Nodes, mates: IntArray, count: int) -> tuple[Row, Nodes]:
    """What the level of the ``count`` aggregates ``mates`` (m,) adds (count,), and its nodes."""
    coupling, inner = _contract(nodes.coupling, mates, count, len(nodes.outer))
    mass = _add_up(mates, nodes.mass, count)
    # It is the mass at least; weights of single precision may cancel below that.
    diagonal = np.maximum(_add_up(mates, nodes.diagonal, count) - inner, mass)
    covered = _add_up(mates, nodes.corrected * nodes.mass**2, count) / mass**2
    added = np.maximum(1 / diagonal - covered, 0.0)
    added[np.bincount(mates, minlength=count) == 1] = 0.0
    return added, Nodes(coupling, diagonal, mass, covered + added, nodes.outer)


def _contract(
    coupling: scipy.sparse.csr_array, mates: IntArray, count: int, outer: int
) -> tuple[scipy.sparse.csr_array, Row]:
    """Weights (count, count + outer) between aggregates, and (count,) twice that inside each."""
    numbers = np.concatenate([mates, count + np.arange(outer)]).astype(coupling.indices.dtype)
    order = np.argsort(mates, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(mates, minlength=count))])
    edges = np.concatenate([[0], np.cumsum(np.diff(coupling.indptr)[order])])
    inner = np.empty(count)
    found = []
    # Some aggregates at a time: edges are what takes memory.
    for tile in edge_tiles(edges[starts], _TILE_EDGES):
        members = order[starts[tile.start] : starts[tile.stop]]
        part = coupling[members]
        i, j = numbers[members].repeat(np.diff(part.indptr)), numbers[part.indices]
        outside = i != j
        i -= tile.start
        size = tile.stop - tile.start
        inner[tile] = _add_up(i[~outside], part.data[~outside], size)
        ends = (i[outside], j[outside])
        pairs = scipy.sparse.coo_array((part.data[outside], ends), shape=(size, count + outer))
        found.append(scipy.sparse.csr_array(pairs))
        found[-1].sort_indices()
    return scipy.sparse.csr_array(scipy.sparse.vstack(found, format="csr")), inner


def _add_up(numbers: IntArray, values: Row, count: int) -> Row:
    sums: Row = np.bincount(numbers, weights=values, minlength=count).astype(np.float64)
    return sums


def _hash_pairs(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Values in [0, 1) (m,) that follow from both numbers."""
    mixed = low.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + high.astype(np.uint64)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(40)).astype(np.float64) / 2**24
