"""Edges between aggregates, added up from those between their nodes, some at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import edge_tiles
from srch_dist.kernels.types import IntArray, Vector

# Edges that are looked at together.
TILE_EDGES = 1 << 19


def inner_weights(coupling: scipy.sparse.csr_array, mates: IntArray, count: int) -> Vector:
    """Twice the weights (count,) inside each of the aggregates ``mates`` (m,) of a graph's rows."""
    inner = np.zeros(count)
    for tile in edge_tiles(coupling.indptr, TILE_EDGES):
        part = slice(coupling.indptr[tile.start], coupling.indptr[tile.stop])
        own, other = mates[starts_of(coupling, tile)], coupling.indices[part]
        # Nodes elsewhere are in no aggregate of these.
        inside = other < len(mates)
        inside[inside] = own[inside] == mates[other[inside]]
        inner += add_up(own[inside], coupling.data[part][inside], count)
    return inner


def contract(
    coupling: scipy.sparse.csr_array,
    mates: NDArray[Any],
    ends: NDArray[Any],
    first: int,
    shape: tuple[int, int],
    weak: Vector | None = None,
) -> scipy.sparse.csr_array:
    """Weights (count, all) between aggregates; ``shape`` is both.

    ``mates`` (m,) is the aggregate of each row of ``coupling``, counted from ``first`` among all;
    ``ends`` (columns,) that of each column among all. Numbers beyond the shape are left out. An
    edge below ``weak`` (all,) of both ends is kept with the probability of its share of the smaller
    of these, and weighs that much then: sums over many such edges stay what they are on the mean.
    Which are kept follows from the numbers of both ends.
    """
    if not shape[0]:
        return scipy.sparse.csr_array(shape, dtype=coupling.dtype)
    order = np.argsort(mates, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(mates, minlength=shape[0])[: shape[0]])])
    edges = np.concatenate([[0], np.cumsum(np.diff(coupling.indptr)[order])])
    found = []
    # Some aggregates at a time: edges are what takes memory.
    for tile in edge_tiles(edges[starts], TILE_EDGES):
        members = order[starts[tile.start] : starts[tile.stop]]
        part = coupling[members]
        i, j = mates[members].repeat(np.diff(part.indptr)), ends[part.indices]
        outside = (i + first != j) & (j < shape[1])
        i -= tile.start
        size = tile.stop - tile.start
        pairs = (part.data[outside], (i[outside], j[outside]))
        summed = scipy.sparse.csr_array(scipy.sparse.coo_array(pairs, shape=(size, shape[1])))
        if weak is not None:
            summed = _draw(summed, first + tile.start, weak)
        summed.sort_indices()
        found.append(summed)
    return _stack(found, shape)


def _stack(parts: list[scipy.sparse.csr_array], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """The rows of all parts; the list is empty then, so that they are not in memory twice."""
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    columns = [part.indices for part in parts]
    values = [part.data for part in parts]
    parts.clear()
    indices = concatenate(columns)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(indices.dtype)
    return scipy.sparse.csr_array((concatenate(values), indices, indptr), shape=shape)


def _draw(edges: scipy.sparse.csr_array, first: int, weak: Vector) -> scipy.sparse.csr_array:
    """Draw among the edges of the aggregates from ``first`` on; see `contract`."""
    i, j = first + starts_of(edges, slice(0, edges.shape[0])), edges.indices
    limit = np.minimum(weak[i], weak[j])
    kept = hash_pairs(np.minimum(i, j), np.maximum(i, j)) * limit < edges.data
    counts = np.bincount(i[kept] - first, minlength=edges.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(j.dtype)
    values = np.maximum(edges.data, limit)[kept].astype(edges.dtype)
    return scipy.sparse.csr_array((values, j[kept], indptr), shape=edges.shape)


def add_up(numbers: IntArray, values: Vector, count: int) -> Vector:
    """Sums (count,) of the values (m,) by number (m,)."""
    sums: Vector = np.bincount(numbers, weights=values, minlength=count).astype(np.float64)
    return sums


def starts_of(coupling: scipy.sparse.csr_array, rows: slice) -> NDArray[Any]:
    """The row (edges,) of each entry of some rows, of the narrow type of the columns."""
    numbers = np.arange(rows.start, rows.stop, dtype=coupling.indices.dtype)
    return np.repeat(numbers, np.diff(coupling.indptr[rows.start : rows.stop + 1]))


def concatenate(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The parts in one array; the list is empty then, so that they are not in memory twice."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def hash_pairs(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Values in [0, 1) (m,) that follow from both numbers."""
    mixed = low.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + high.astype(np.uint64)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(40)).astype(np.float64) / 2**24
