"""The edges of one block of rows (`GraphBlock`): CSR arrays, in memory or streamed from a file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.adjacency import distinct
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix

# Number of rows whose edges are read at once.
TILE_ROWS = 1 << 15


class EdgeValues(Protocol):
    """Type of arrays and scratch-file readers: one value per edge, read by slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


@dataclass(frozen=True)
class JoinedValues(Sized):
    """Edge values that are stored in consecutive parts, read as one array."""

    parts: tuple[EdgeValues, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(len(self))
        overlaps: list[Array] = []
        first = 0
        for values in self.parts:
            low, high = max(start, first), min(stop, first + len(values))
            # Read at least one slice, possibly empty, so that the result has the right dtype.
            if low < high or not overlaps:
                overlaps.append(values[slice(max(0, low - first), max(0, high - first))])
            first += len(values)
        return np.concatenate(overlaps) if len(overlaps) > 1 else np.asarray(overlaps[0])


class SparseRows(Protocol):
    """Type of a CSR array or `StreamedRows`: ``matrix[rows]`` and ``matrix @ vectors``."""

    def __getitem__(self, rows: slice, /) -> Any: ...

    def __matmul__(self, vectors: Array, /) -> Any: ...


@dataclass(frozen=True)
class StreamedRows(Sized):
    """A CSR matrix whose entries are read `TILE_ROWS` rows at a time.

    Products equal those of `scipy.sparse.csr_array` to the bit.

    Attributes
    ----------
    indptr : (rows + 1,) CSR row pointers.
    indices, values : (entries,) columns and values.
    width : number of columns.
    """

    indptr: NDArray[Any]
    indices: EdgeValues
    values: EdgeValues
    width: int

    def __getitem__(self, rows: slice) -> scipy.sparse.csr_array:
        low, high, _ = rows.indices(len(self.indptr) - 1)
        ends = self.indptr[low : high + 1]
        part = slice(int(ends[0]), int(ends[-1]))
        return scipy.sparse.csr_array(
            (self.values[part], self.indices[part], ends - ends[0]),
            shape=(high - low, self.width),
        )

    def __matmul__(self, vectors: Array) -> Array:
        product = np.empty((len(self.indptr) - 1, vectors.shape[1]), dtype=vectors.dtype)
        for rows in row_tiles(len(product)):
            product[rows] = self[rows] @ vectors
        return product


@dataclass(frozen=True)
class GraphBlock(Sized):
    """The directed edges of a block of rows; the halo is the neighbour rows outside the block.

    Attributes
    ----------
    first_row : number of the first row, in training order.
    indptr : (rows + 1,) CSR row pointers, of the dtype of ``columns``.
    columns : (edges,) int32 (int64 from 2³¹ edges or columns), the local column of the neighbour.
        Inside the block, a local column is the row, counted from the block's first row. In the
        halo, it is ``rows`` + the position in ``halo``. Edges of a row are sorted by the
        neighbour's row number, so sums along a row round equally for any blocks.
    halo : (h,) row numbers of neighbours outside the block, ascending.
    weights : (edges,) float64, Σ_g w_g C_g (Eq. 6), with w_g the weight of modality g.
    multiplicity : (edges,) int8, number of modalities whose graph has the edge.
    counted_once : (edges,) bool. An undirected edge consists of two directed edges. True for the
        directed edge from the lower to the higher row number.
    """

    first_row: int
    indptr: NDArray[Any]
    columns: EdgeValues
    halo: NDArray[np.int64]
    weights: EdgeValues
    multiplicity: EdgeValues
    counted_once: EdgeValues

    @property
    def rows(self) -> int:
        """Number of rows of the block."""
        return len(self.indptr) - 1

    @property
    def owners(self) -> NDArray[np.int64]:
        """Row (edges,) of each edge, counted from the first row of the block."""
        return self.owners_of(0, len(self.columns))

    def edges_of(self, rows: slice) -> slice:
        """Return the slice of the edge arrays that holds the edges of ``rows``."""
        return slice(int(self.indptr[rows.start]), int(self.indptr[rows.stop]))

    def owners_of(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the row of each edge ``start`` … ``stop`` - 1; see `owners`."""
        low = int(np.searchsorted(self.indptr, start, side="right")) - 1
        high = int(np.searchsorted(self.indptr, stop, side="left"))
        ends = np.clip(self.indptr[low : high + 1], start, stop)
        return np.repeat(np.arange(low, high), np.diff(ends))


def outside(span: tuple[int, int], indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the halo: distinct row numbers in ``indices`` (edges,) outside the block, ascending.

    ``span`` is the first row of the block, and the row after the block's last row.
    """
    return distinct(indices[(indices < span[0]) | (indices >= span[1])])


def index_type(edges: int, columns: int) -> type[np.signedinteger[Any]]:
    """Choose the dtype of a block's ``indptr`` and columns: int32 if both numbers fit, else int64.

    SciPy multiplies faster with int32. It converts both arrays to int64 if one of them is int64.
    """
    return np.int32 if max(edges, columns) < np.iinfo(np.int32).max else np.int64


def local_columns(
    span: tuple[int, int], halo: NDArray[np.int64], indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Convert row numbers to local columns; see `GraphBlock`.

    Parameters
    ----------
    span : first row of the block, and the row after the block's last row.
    halo : (h,) the halo of the block, ascending. It contains all ``indices`` outside ``span``.
    indices : (edges,) row numbers.
    """
    columns = indices - span[0]
    # Look up only the indices outside: most lie inside, and the look-up is most of the work.
    far = np.flatnonzero((columns < 0) | (columns >= span[1] - span[0]))
    columns[far] = span[1] - span[0] + _positions(halo, indices[far])
    return columns


def _positions(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position (m,) in ``known`` of each of the m values of ``wanted``.

    ``known`` is ascending and contains all values of ``wanted``.
    """
    reach = int(known[-1]) + 1 if len(known) else 0
    if reach > 2 * len(wanted):
        return np.searchsorted(known, wanted)
    # Look up in a table of all numbers, unless it is much longer than ``wanted``: every step of a
    # binary search is a cache miss.
    table = np.empty(reach, dtype=index_type(0, len(known)))
    table[known] = np.arange(len(known))
    positions: NDArray[np.int64] = table[wanted]
    return positions


def edge_values(
    first_row: int,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    weights: Array,
    trust: Array,
) -> tuple[Matrix, NDArray[np.int8], NDArray[np.bool_]]:
    """Compute the ``weights``, ``multiplicity`` and ``counted_once`` of a `GraphBlock`.

    Parameters
    ----------
    first_row : number of the first row.
    indptr, indices : CSR of the rows, with row numbers as indices.
    weights : (edges, modalities) C_g (Eq. 6), zero if the modality's graph lacks the edge.
    trust : (modalities,) the weights w_g.
    """
    return (
        weights @ trust,
        (weights > 0).sum(axis=1, dtype=np.int8),
        first_row + np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) < indices,
    )


def row_tiles(rows: int) -> list[slice]:
    """Split 0 … ``rows`` - 1 into tiles of `TILE_ROWS` rows."""
    ends = [*range(0, rows, TILE_ROWS), rows]
    return [slice(low, high) for low, high in pairwise(ends)]


def edge_tiles(indptr: NDArray[np.signedinteger[Any]], edges: int) -> list[slice]:
    """Split CSR rows into tiles of at most ``edges`` edges; a row with more edges is one tile."""
    low, rows, tiles = 0, len(indptr) - 1, []
    while low < rows:
        end = int(np.searchsorted(indptr, indptr[low] + edges, side="right")) - 1
        tiles.append(slice(low, max(low + 1, end)))
        low = tiles[-1].stop
    return tiles
