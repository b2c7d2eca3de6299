"""Matching of nodes along their strongest edges, some edges at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import edge_tiles
from srch_dist.kernels.multigrid.coarsening import TILE_EDGES, concatenate, hash_pairs, starts_of
from srch_dist.kernels.types import IntArray, Vector

_ROUNDS = 6
# An edge below this share of an end's diagonal couples that end to next to nothing.
_STRONG = 5e-3
# Nodes pair along edges of at least this share of the strongest edge of either end.
_AMONG = 0.5
# Edges of a node that it may pair along.
_CANDIDATES = 5
# Strengths that differ by less than this share are told apart by a hash.
_TIES = 1e-6


def match_nodes(
    coupling: scipy.sparse.csr_array, diagonal: Vector, end: np.ufunc = np.maximum
) -> tuple[IntArray, int]:
    """Number of its aggregate (nodes,) of each node, and of aggregates; one node may be one.

    ``coupling`` (nodes, nodes + outer) and ``diagonal`` (nodes + outer,) are of nodes and of rows
    elsewhere.

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
    count = coupling.shape[0]
    top = _strongest(coupling, diagonal, end)
    edges, best = _strong_edges(coupling, diagonal, end, top)
    leader, free = _pair_up(count, *edges)
    i, j = best
    joins = free[i] & ~free[j]
    leader[i[joins]] = leader[j[joins]]
    leads = leader == np.arange(count)
    numbers = np.cumsum(leads) - 1
    return numbers[leader], int(np.count_nonzero(leads))


def _strongest(coupling: scipy.sparse.csr_array, diagonal: Vector, end: np.ufunc) -> Vector:
    """The strength (nodes,) of each node's strongest edge, which may lead elsewhere; 0: none."""
    top = np.zeros(coupling.shape[0])
    # Some rows at a time: edges are what takes memory.
    for tile in edge_tiles(coupling.indptr, TILE_EDGES):
        strength = _strengths(coupling, diagonal, end, tile)
        starts = coupling.indptr[tile.start : tile.stop] - coupling.indptr[tile.start]
        some = np.diff(coupling.indptr[tile.start : tile.stop + 1]) > 0
        if some.any():
            top[tile][some] = np.maximum.reduceat(strength, starts[some])
    return top


def _strong_edges(
    coupling: scipy.sparse.csr_array, diagonal: Vector, end: np.ufunc, top: Vector
) -> tuple[tuple[NDArray[Any], NDArray[Any], Vector], tuple[NDArray[Any], NDArray[Any]]]:
    """Edges between nodes that nodes pair along, and those that a node left over joins another by.

    The former are among the strongest of both ends, some of each node: both ends (edges,) and
    strengths (edges,), row by row. The latter are the strongest of their start. ``top`` is of
    `_strongest`.
    """
    edges: tuple[list[Any], ...] = ([], [], [])
    best: tuple[list[Any], ...] = ([], [])
    # No edge to a row elsewhere is among the strongest of both ends.
    tops = np.concatenate([top, np.full(len(diagonal) - len(top), np.inf)])
    for tile in edge_tiles(coupling.indptr, TILE_EDGES):
        strength = _strengths(coupling, diagonal, end, tile)
        i = starts_of(coupling, tile)
        j = coupling.indices[coupling.indptr[tile.start] : coupling.indptr[tile.stop]]
        least = top[i]
        felt = strength > 0
        first = np.flatnonzero(felt & (strength >= (1 - _TIES) * least))
        among = np.flatnonzero(felt & (strength >= _AMONG * np.maximum(least, tops[j])))
        chosen = first[_first_few(i[first], _apart(i[first], j[first], strength[first]), 1)]
        chosen = chosen[j[chosen] < len(top)]
        _collect(best, chosen, i, j)
        i, j, strength = i[among], j[among], strength[among]
        strength = _apart(i, j, strength)
        _collect(edges, _first_few(i, strength, _CANDIDATES), i, j, strength)
    i, j, strength = map(concatenate, edges)
    return (i, j, strength), (concatenate(best[0]), concatenate(best[1]))


def _strengths(
    coupling: scipy.sparse.csr_array, diagonal: Vector, end: np.ufunc, rows: slice
) -> Vector:
    """Strengths (edges,) of the edges of some nodes, 0 of those that are not felt.

    ``diagonal`` (columns,) is that of all ends.
    """
    part = slice(coupling.indptr[rows.start], coupling.indptr[rows.stop])
    weights = coupling.data[part]
    own = np.repeat(diagonal[rows], np.diff(coupling.indptr[rows.start : rows.stop + 1]))
    other = diagonal[coupling.indices[part]]
    felt = weights > _STRONG * end(own, other)
    strength: Vector = np.divide(weights, np.maximum(own, other, out=own), out=own)
    strength *= felt
    return strength


def _apart(i: NDArray[Any], j: NDArray[Any], strength: Vector) -> Vector:
    """Strengths (edges,) of which equal ones differ, alike from both ends."""
    apart: Vector = strength * (1 + _TIES * hash_pairs(np.minimum(i, j), np.maximum(i, j)))
    return apart


def _first_few(i: NDArray[Any], strength: Vector, few: int) -> NDArray[np.bool_]:
    """Which edges (edges,), row by row, are among the ``few`` strongest of their start."""
    kept = np.ones(len(i), dtype=np.bool_)
    lengths = _run_lengths(_run_starts(i), len(i))
    crowded = np.flatnonzero(np.repeat(lengths > few, lengths))
    if len(crowded):  # of few nodes, and sorting takes the longest
        # Strengths are hardly above 1: rows stay apart.
        order = crowded[np.argsort(i[crowded] - 0.5 * strength[crowded], kind="stable")]
        starts = _run_starts(i[order])
        place = np.arange(len(order)) - np.repeat(starts, _run_lengths(starts, len(order)))
        kept[order] = place < few
    return kept


def _collect(lists: tuple[list[Any], ...], kept: NDArray[Any], *columns: NDArray[Any]) -> None:
    for found, values in zip(lists, columns, strict=True):
        found.append(values[kept])


def _pair_up(
    nodes: int, i: NDArray[Any], j: NDArray[Any], strength: Vector
) -> tuple[IntArray, NDArray[np.bool_]]:
    """The lower number (nodes,) of the pair of each node, and which nodes (nodes,) have none."""
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
        open_edges = free[i] & free[j]
        i, j, strength = i[open_edges], j[open_edges], strength[open_edges]
    return leader, free


def _run_starts(i: NDArray[Any]) -> IntArray:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], i[1:] != i[:-1]])) if len(i) else i


def _run_lengths(starts: IntArray, count: int) -> IntArray:
    """How many of ``count`` values each run has."""
    return np.diff(np.append(starts, count))
