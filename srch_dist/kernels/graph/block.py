"""The edges of a run of rows as CSR, with local columns and a halo."""

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

# Rows whose edges are fetched at once.
TILE_ROWS = 1 << 15


_ALL = slice(None)


class EdgeValues(Protocol):
    """One value an edge, fetched in runs: an array, or what stands in for one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


@dataclass(frozen=True)
class JoinedValues(Sized):
    """Values of several runs of edges as those of one."""

    parts: tuple[EdgeValues, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(len(self))
        found: list[Array] = []
        first = 0
        for values in self.parts:
            low, high = max(start, first), min(stop, first + len(values))
            if low < high or not found:
                found.append(values[slice(max(0, low - first), max(0, high - first))])
            first += len(values)
        return np.concatenate(found) if len(found) > 1 else np.asarray(found[0])


class SparseRows(Protocol):
    """A sparse matrix of which runs of rows can be taken: a CSR array, or `StreamedRows`."""

    def __getitem__(self, rows: slice, /) -> Any: ...

    def __matmul__(self, vectors: Array, /) -> Any: ...


@dataclass(frozen=True)
class StreamedRows(Sized):
    """A CSR matrix (rows, width) whose entries are fetched some rows at a time.

    A row's product adds in the same order as that of a `scipy.sparse.csr_array`, to the bit.
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
    """The edges of a run of rows, with local columns: own rows first, then the halo.

    What there is of each edge may be in memory or elsewhere; see `EdgeValues`.

    Attributes
    ----------
    first_row : number of the first row in training order.
    indptr : (rows + 1,), of the same type as ``columns``.
    columns : (edges,) int32 (int64 beyond 2³¹ edges), which the matrix of a `SystemBlock` shares;
        below ``rows`` an own row, else ``rows`` + position in the halo. A row's edges are in
        ascending order of the neighbour's row number for every block count, so that sums along a
        row round in the same way.
    halo : (h,) int64, sorted row numbers of neighbours outside the block.
    weights : (edges,) float64, Σ_g w_g C_g (Eq. 6), with w_g the weight of modality g.
    multiplicity : (edges,) int8, how many modalities' graphs hold the edge.
    counted_once : (edges,), true at one end of each undirected edge: the row of the lower number.
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
        """Rows of the block."""
        return len(self.indptr) - 1

    @property
    def owners(self) -> NDArray[np.int64]:
        """The local row (edges,) that each edge starts at."""
        return self.owners_of(0, len(self.columns))

    def edges_of(self, rows: slice) -> slice:
        """The edges of a run of rows."""
        return slice(int(self.indptr[rows.start]), int(self.indptr[rows.stop]))

    def owners_of(self, start: int, stop: int) -> NDArray[np.int64]:
        """`owners` of the edges ``start`` … ``stop`` - 1 alone."""
        low = int(np.searchsorted(self.indptr, start, side="right")) - 1
        high = int(np.searchsorted(self.indptr, stop, side="left"))
        ends = np.clip(self.indptr[low : high + 1], start, stop)
        return np.repeat(np.arange(low, high), np.diff(ends))


def outside(span: tuple[int, int], indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different row numbers among ``indices`` that do not lie in ``span``, ascending."""
    return distinct(indices[(indices < span[0]) | (indices >= span[1])])


def index_type(edges: int, columns: int) -> type[np.signedinteger[Any]]:
    """Type of a block's ends and columns.

    SciPy multiplies faster with narrow indices, but keeps wide ones where either array is wide.
    """
    return np.int32 if max(edges, columns) < np.iinfo(np.int32).max else np.int64


def local_columns(
    span: tuple[int, int], halo: NDArray[np.int64], indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Columns (edges,) of row numbers in a block of the rows ``span`` with this ``halo``."""
    columns = indices - span[0]
    # Only what lies outside is looked up: most does not, and it is most of the work.
    far = np.flatnonzero((columns < 0) | (columns >= span[1] - span[0]))
    columns[far] = span[1] - span[0] + _places(halo, indices[far])
    return columns


def _places(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place in ``known``, ascending, of each of the ``wanted``, which are all there."""
    reach = int(known[-1]) + 1 if len(known) else 0
    if reach > 2 * len(wanted):
        return np.searchsorted(known, wanted)
    # A table of all numbers, where it is not much longer than what is looked up: a search goes
    # through memory at every step.
    table = np.empty(reach, dtype=index_type(0, len(known)))
    table[known] = np.arange(len(known))
    places: NDArray[np.int64] = table[wanted]
    return places


def edge_values(
    first_row: int,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    weights: Array,
    trust: Array,
) -> tuple[Matrix, NDArray[np.int8], NDArray[np.bool_]]:
    """Weights, multiplicity and which end counts, of the edges of rows from ``first_row`` on.

    ``weights`` is (edges, modalities): C_g, zero where a modality's graph lacks the edge;
    ``trust`` (modalities,) weighs the modalities' graphs. See `GraphBlock`.
    """
    return (
        weights @ trust,
        (weights > 0).sum(axis=1, dtype=np.int8),
        first_row + np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) < indices,
    )


def row_tiles(rows: int) -> list[slice]:
    """Runs of rows whose edges are fetched at once."""
    ends = [*range(0, rows, TILE_ROWS), rows]
    return [slice(low, high) for low, high in pairwise(ends)]


def edge_tiles(starts: NDArray[np.signedinteger[Any]], edges: int) -> list[slice]:
    """Runs of rows of at most ``edges`` edges, or of one row; ``starts`` is (rows + 1,)."""
    low, rows, found = 0, len(starts) - 1, []
    while low < rows:
        end = int(np.searchsorted(starts, starts[low] + edges, side="right")) - 1
        found.append(slice(low, max(low + 1, end)))
        low = found[-1].stop
    return found
