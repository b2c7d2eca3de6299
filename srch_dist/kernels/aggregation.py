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
TILE_EDGES = 1 << 19
_ROUNDS = 6
# An edge below this share of an end's diagonal couples that end to next to nothing.
_STRONG = 5e-3
# Nodes pair along edges of at least this share of the strongest edge of either end.
_AMONG = 0.5
# Edges of a node that it may pair along.
_CANDIDATES = 5
# A matching after which more than this share of the tied nodes is left is not worth a level: along
# edges that both ends feel, and along those that one end feels, which are the last there are.
_SHRINK, _LAST_SHRINK = 0.8, 0.95
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


def aggregate_zone(nodes: Nodes) -> tuple[Hierarchy, Nodes]:
    """One matching of nodes among which some are tied to others elsewhere, and what is left.

    What is left has no edges: these are added up once all zones are matched. A node whose strongest
    edge goes elsewhere waits; where nearly all do there is no level.
    """
    found = _match(nodes, 0, ((np.maximum, _LAST_SHRINK),))
    if found is None:
        return Hierarchy((), (), np.empty(0, dtype=np.int64)), nodes
    mates, count = found
    none = scipy.sparse.csr_array((count, count + len(nodes.outer)))
    added, left = _join(nodes, mates, none, _inner_weights(nodes.coupling, mates, count))
    return Hierarchy((mates,), (added,), np.empty(0, dtype=np.int64)), left


def build_hierarchy(nodes: Nodes, quota: int) -> Hierarchy:
    """Aggregate nodes that have no edge elsewhere until at most ``quota`` are tied to others.

    ``quota`` is the most coarse unknowns. Every matching is a level: since a level corrects only
    what those below leave, leaving some out saves little work and costs iterations.
    """
    # Where no other is left, what remains are nodes that only the smaller of both ends is tied to.
    ends = ((np.maximum, _SHRINK), (np.minimum, _LAST_SHRINK))
    parents: list[IntArray] = []
    inverse: list[Row] = []
    for _ in range(_PASSES):
        found = _match(nodes, quota, ends)
        if found is None:
            break
        mates, count = found
        ends_of = mates.astype(nodes.coupling.indices.dtype)  # as narrow as there, for memory
        joined = contract(nodes.coupling, ends_of, ends_of, 0, (count, count))
        added, nodes = _join(nodes, mates, *joined)
        parents.append(mates)
        inverse.append(added)
    if not parents:
        # A level to carry the coarse unknowns.
        parents, inverse = [np.arange(len(nodes))], [np.zeros(len(nodes))]
    tied = _ties(nodes)
    chosen = np.argsort(-tied, kind="stable")[:quota]
    top = np.sort(chosen[tied[chosen] > _TIED * nodes.diagonal[chosen]])
    inverse[-1][top] = 0.0
    return Hierarchy(tuple(parents), tuple(inverse), top)


def _match(
    nodes: Nodes, least: int, ends: tuple[tuple[np.ufunc, float], ...]
) -> tuple[IntArray, int] | None:
    """`match_nodes` with the first of the ``ends`` that leaves few enough of the tied nodes.

    None where none does, or ``least`` nodes or fewer are tied to others: what is tied to nothing
    else is as good as it will be, however much of it there is.
    """
    tied = np.count_nonzero(_ties(nodes) > _TIED * nodes.diagonal)
    if tied <= least:
        return None
    for end, shrink in ends:
        mates, count = match_nodes(nodes, end)
        if len(nodes) - count >= (1 - shrink) * tied:
            return mates, count
    return None


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
    top = _strongest(nodes, end)
    edges, best = _strong_edges(nodes, end, top)
    leader, free = _pair_up(count, *edges)
    i, j = best
    joins = free[i] & ~free[j]
    leader[i[joins]] = leader[j[joins]]
    leads = leader == np.arange(count)
    numbers = np.cumsum(leads) - 1
    return numbers[leader], int(np.count_nonzero(leads))


def _strongest(nodes: Nodes, end: np.ufunc) -> Row:
    """The strength (m,) of the strongest edge of each node, which may lead elsewhere."""
    top = np.zeros(len(nodes))
    # Some rows at a time: edges are what takes memory.
    for tile in edge_tiles(nodes.coupling.indptr, TILE_EDGES):
        i, _, strength = _felt_edges(nodes, end, tile)
        starts = _run_starts(i)
        if len(i):
            top[i[starts]] = np.maximum.reduceat(strength, starts)
    return top


def _strong_edges(
    nodes: Nodes, end: np.ufunc, top: Row
) -> tuple[tuple[NDArray[Any], NDArray[Any], Row], tuple[NDArray[Any], NDArray[Any]]]:
    """Edges between nodes that nodes pair along, and those that a node left over joins another by.

    The former are among the strongest of both ends, some of each node: both ends (edges,) and
    strengths (edges,), row by row. The latter are the strongest of their start. ``top`` is of
    `_strongest`.
    """
    edges: tuple[list[Any], ...] = ([], [], [])
    best: tuple[list[Any], ...] = ([], [])
    for tile in edge_tiles(nodes.coupling.indptr, TILE_EDGES):
        i, j, strength = _felt_edges(nodes, end, tile)
        first = strength >= top[i]
        inside = j < len(nodes)
        among = inside & (strength >= _AMONG * top[i])
        among[among] = strength[among] >= _AMONG * top[j[among]]
        _collect(best, inside & first, i, j)
        i, j, strength = i[among], j[among], strength[among]
        order = np.lexsort((-strength, i))
        i, j, strength = i[order], j[order], strength[order]
        starts = _run_starts(i)
        place = np.arange(len(i)) - np.repeat(starts, np.diff(np.append(starts, len(i))))
        _collect(edges, place < _CANDIDATES, i, j, strength)
    i, j, strength = map(_concatenate, edges)
    return (i, j, strength), (_concatenate(best[0]), _concatenate(best[1]))


def _collect(lists: tuple[list[Any], ...], kept: NDArray[np.bool_], *columns: NDArray[Any]) -> None:
    for found, values in zip(lists, columns, strict=True):
        found.append(values[kept])


def _concatenate(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The parts in one array; the list is empty then, so that they are not in memory twice."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


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


def _join(
    nodes: Nodes, mates: IntArray, coupling: scipy.sparse.csr_array, inner: Row
) -> tuple[Row, Nodes]:
    """What the level of the aggregates ``mates`` (m,) adds (count,), and its nodes.

    ``coupling`` is that between the aggregates; ``inner`` (count,) twice the weights inside each.
    """
    count = len(inner)
    mass = _add_up(mates, nodes.mass, count)
    # It is the mass at least; weights of single precision may cancel below that.
    diagonal = np.maximum(_add_up(mates, nodes.diagonal, count) - inner, mass)
    covered = _add_up(mates, nodes.corrected * nodes.mass**2, count) / mass**2
    added = np.maximum(1 / diagonal - covered, 0.0)
    added[np.bincount(mates, minlength=count) == 1] = 0.0
    return added, Nodes(coupling, diagonal, mass, covered + added, nodes.outer)


def _inner_weights(coupling: scipy.sparse.csr_array, mates: IntArray, count: int) -> Row:
    """Twice the weights inside each aggregate (count,), as of `contract`."""
    inner = np.zeros(count)
    for tile in edge_tiles(coupling.indptr, TILE_EDGES):
        part = slice(coupling.indptr[tile.start], coupling.indptr[tile.stop])
        own, other = mates[_starts_of(coupling, tile)], coupling.indices[part]
        # Nodes elsewhere are in no aggregate of these.
        inside = other < len(mates)
        inside[inside] = own[inside] == mates[other[inside]]
        inner += _add_up(own[inside], coupling.data[part][inside], count)
    return inner


def contract(
    coupling: scipy.sparse.csr_array,
    mates: NDArray[Any],
    ends: NDArray[Any],
    first: int,
    shape: tuple[int, int],
    weak: Row | None = None,
) -> tuple[scipy.sparse.csr_array, Row]:
    """Weights (count, width) between aggregates, and (count,) twice that inside each.

    ``shape`` is both. ``mates`` (m,) is the aggregate of each row of ``coupling``, counted from
    ``first`` among all; ``ends`` (columns,) that of each column among all. An edge below ``weak``
    (width,) of both ends is kept with the probability of its share of the smaller of these, and
    weighs that much then: sums over many such edges stay what they are on the mean. Which are kept
    follows from the numbers of both ends.
    """
    order = np.argsort(mates, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(mates, minlength=shape[0]))])
    edges = np.concatenate([[0], np.cumsum(np.diff(coupling.indptr)[order])])
    inner = np.empty(shape[0])
    found = []
    # Some aggregates at a time: edges are what takes memory.
    for tile in edge_tiles(edges[starts], TILE_EDGES):
        members = order[starts[tile.start] : starts[tile.stop]]
        part = coupling[members]
        i, j = mates[members].repeat(np.diff(part.indptr)), ends[part.indices]
        outside = i + first != j
        i -= tile.start
        size = tile.stop - tile.start
        inner[tile] = _add_up(i[~outside], part.data[~outside], size)
        pairs = (part.data[outside], (i[outside], j[outside]))
        summed = scipy.sparse.csr_array(scipy.sparse.coo_array(pairs, shape=(size, shape[1])))
        if weak is not None:
            summed = _draw(summed, first + tile.start, weak)
        summed.sort_indices()
        found.append(summed)
    return _stack(found, shape), inner


def _stack(parts: list[scipy.sparse.csr_array], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """The rows of all parts; the list is empty then, so that they are not in memory twice."""
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    columns = [part.indices for part in parts]
    values = [part.data for part in parts]
    parts.clear()
    indices = _concatenate(columns)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(indices.dtype)
    return scipy.sparse.csr_array((_concatenate(values), indices, indptr), shape=shape)


def _draw(edges: scipy.sparse.csr_array, first: int, weak: Row) -> scipy.sparse.csr_array:
    """Draw among the edges of the aggregates from ``first`` on; see `contract`."""
    i, j = first + _starts_of(edges, slice(0, edges.shape[0])), edges.indices
    limit = np.minimum(weak[i], weak[j])
    kept = _hash_pairs(np.minimum(i, j), np.maximum(i, j)) * limit < edges.data
    counts = np.bincount(i[kept] - first, minlength=edges.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(j.dtype)
    values = np.maximum(edges.data, limit)[kept].astype(edges.dtype)
    return scipy.sparse.csr_array((values, j[kept], indptr), shape=edges.shape)


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
