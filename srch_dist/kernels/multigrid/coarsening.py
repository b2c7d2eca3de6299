"""Galerkin coarse operator P'CP of an aggregation: edges of nodes become edges of aggregates.

C is the off-diagonal coupling of a graph, and P the indicator matrix of its aggregates. Entry
(i, j) of P'CP is the coupling between aggregates i and j. A diagonal entry is twice the coupling
inside an aggregate. All functions work on `TILE_EDGES` edges at a time, to save memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import edge_tiles
from srch_dist.kernels.types import IntArray, Vector

# Number of edges of a tile.
TILE_EDGES = 1 << 19


def inner_weights(coupling: scipy.sparse.csr_array, aggregates: IntArray, count: int) -> Vector:
    """Compute the diagonal (count,) of P'CP: twice the coupling inside each aggregate.

    Parameters
    ----------
    coupling : (m, m + outer) CSR of m nodes, symmetric in its first m columns. The last columns are
        outer rows: neighbours outside the subdomain.
    aggregates : (m,) the aggregate of each node. Outer rows have no aggregate.
    """
    inner = np.zeros(count)
    for tile in edge_tiles(coupling.indptr, TILE_EDGES):
        part = slice(coupling.indptr[tile.start], coupling.indptr[tile.stop])
        own, other = aggregates[entry_rows(coupling, tile)], coupling.indices[part]
        inside = other < len(aggregates)
        inside[inside] = own[inside] == aggregates[other[inside]]
        inner += aggregate_sums(own[inside], coupling.data[part][inside], count)
    return inner


def galerkin_coupling(
    coupling: scipy.sparse.csr_array,
    aggregates: NDArray[Any],
    ends: NDArray[Any],
    first: int,
    shape: tuple[int, int],
    weak: Vector | None = None,
) -> tuple[scipy.sparse.csr_array, Vector]:
    """Compute P'CP in the rows of some aggregates.

    Parameters
    ----------
    coupling : (m, columns) CSR of m rows of C.
    aggregates : (m,) number of the aggregate of each row of C, minus ``first``.
    ends : (columns,) number of the aggregate of each column of C.
    first : lowest number of an aggregate of these rows. The aggregates of all rows are numbered
        consecutively.
    shape : (count, all): number of aggregates of the rows of C, and of all aggregates. Entries
        outside this shape are left out.
    weak : (all,) threshold of each aggregate for random sparsification; None keeps every edge.
        An edge with a weight below t = min(weak_i, weak_j) is kept with probability weight / t.
        The kept edge has weight t, so sums over many weak edges keep their expectation. A hash of
        both ends decides.

    Returns
    -------
    Coupling (count, all) as CSR of the dtype of ``coupling``, and twice the coupling inside each
    aggregate (count,), which is 0 if its rows are not among the columns.
    """
    dtype, inner = coupling.dtype, np.zeros(shape[0])
    if not shape[0]:
        return scipy.sparse.csr_array(shape, dtype=dtype), inner
    order = np.argsort(aggregates, kind="stable").astype(coupling.indices.dtype)
    sizes = np.bincount(aggregates, minlength=shape[0])[: shape[0]]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    edges = np.concatenate([[0], np.cumsum(np.diff(coupling.indptr)[order])])
    # CP, with one entry per edge. Its product with P' adds up the entries of equal columns.
    ends = ends[coupling.indices]
    width = max(shape[1], int(ends.max(initial=0)) + 1)
    coarse = scipy.sparse.csr_array((coupling.data, ends, coupling.indptr), (len(order), width))
    tiles = []
    for tile in edge_tiles(edges[starts], TILE_EDGES):
        own = starts[tile.start : tile.stop + 1]
        members = order[own[0] : own[-1]]
        restriction = scipy.sparse.csr_array(
            (np.ones(len(members), dtype), members, (own - own[0]).astype(members.dtype)),
            shape=(tile.stop - tile.start, len(order)),
        )
        summed = restriction @ coarse
        i, j = entry_rows(summed, slice(0, summed.shape[0])), summed.indices
        inside = i + (first + tile.start) == j
        inner[tile.start + i[inside]] = summed.data[inside]
        summed = _selected(summed, i, ~inside & (j < shape[1]), shape[1])
        if weak is not None:
            summed = _sparsified(summed, first + tile.start, weak)
        tiles.append(summed)
    return _stack_rows(tiles, shape), inner


def subgraph(coupling: scipy.sparse.csr_array, nodes: IntArray) -> scipy.sparse.csr_array:
    """Return the rows and columns ``nodes`` (k,), ascending, of a coupling (m, m)."""
    if len(nodes) == coupling.shape[0]:
        return coupling
    numbers = np.full(coupling.shape[0], -1, dtype=coupling.indices.dtype)
    numbers[nodes] = np.arange(len(nodes))
    rows = coupling[nodes]
    rows.indices = numbers[rows.indices]
    i = entry_rows(rows, slice(0, len(nodes)))
    return _selected(rows, i, rows.indices >= 0, len(nodes))


def aggregate_sums(aggregates: IntArray, values: Vector, count: int) -> Vector:
    """Sum ``values`` (m,) over the nodes of each aggregate; return the sums (count,) float64."""
    sums: Vector = np.bincount(aggregates, weights=values, minlength=count).astype(np.float64)
    return sums


def entry_rows(matrix: scipy.sparse.csr_array, rows: slice) -> NDArray[Any]:
    """Return the row number (entries,) of each entry in ``rows``, in the dtype of the indices."""
    numbers = np.arange(rows.start, rows.stop, dtype=matrix.indices.dtype)
    return np.repeat(numbers, np.diff(matrix.indptr[rows.start : rows.stop + 1]))


def concatenate_and_clear(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate the arrays in ``parts``, then clear the list to free their memory."""
    joined = np.concatenate(parts)
    parts.clear()
    return joined


def hash_pairs(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Hash each of m pairs (low[i], high[i]) to a value in [0, 1); return (m,) float64."""
    mixed = low.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + high.astype(np.uint64)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(40)).astype(np.float64) / 2**24


def _stack_rows(
    parts: list[scipy.sparse.csr_array], shape: tuple[int, int]
) -> scipy.sparse.csr_array:
    """Stack matrices by rows. Clear the list ``parts``, so that a copied array is freed."""
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    columns = [part.indices for part in parts]
    values = [part.data for part in parts]
    parts.clear()
    indices = concatenate_and_clear(columns)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(indices.dtype)
    return scipy.sparse.csr_array((concatenate_and_clear(values), indices, indptr), shape=shape)


def _selected(
    matrix: scipy.sparse.csr_array, i: NDArray[Any], kept: NDArray[np.bool_], width: int
) -> scipy.sparse.csr_array:
    """Keep the entries that ``kept`` (entries,) marks; ``i`` (entries,) are their rows."""
    counts = np.bincount(i[kept], minlength=matrix.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(matrix.indices.dtype)
    return scipy.sparse.csr_array(
        (matrix.data[kept], matrix.indices[kept], indptr), shape=(matrix.shape[0], width)
    )


def _sparsified(edges: scipy.sparse.csr_array, first: int, weak: Vector) -> scipy.sparse.csr_array:
    """Sparsify the edges of the aggregates from ``first`` on; see `galerkin_coupling`."""
    i, j = first + entry_rows(edges, slice(0, edges.shape[0])), edges.indices
    limit = np.minimum(weak[i], weak[j])
    kept = hash_pairs(np.minimum(i, j), np.maximum(i, j)) * limit < edges.data
    counts = np.bincount(i[kept] - first, minlength=edges.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(j.dtype)
    values = np.maximum(edges.data, limit)[kept].astype(edges.dtype)
    return scipy.sparse.csr_array((values, j[kept], indptr), shape=edges.shape)
