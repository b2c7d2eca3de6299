"""A block of the semantic graph: distances along edges, the rebase (Eq. 15), rows of H (Eq. 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.adjacency import distinct
from srch_dist.kernels.graph.neighbours import candidate_distances
from srch_dist.kernels.tiling import Sized, chunks

Array = NDArray[Any]
Matrix = NDArray[np.float64]

# Edges of a run of `distance_runs`.
DISTANCE_EDGES = 1 << 18
# Edges whose terms of the objective are worked out at once.
TERM_EDGES = 1 << 20
# Rows whose edges are fetched at once.
TILE_ROWS = 1 << 15
# Bins of the histogram of S.
WEIGHT_BINS = 20
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


@dataclass(frozen=True)
class SystemBlock(Sized):
    """Rows of βI + λH: ``diagonal`` (rows,) and the rest as a CSR (rows, rows + halo)."""

    diagonal: Array
    off_diagonal: SparseRows

    def apply(self, own: Array, *halo: Array) -> Array:
        """The product with the vectors (rows, l) of the block and those of its halo, in parts."""
        both = np.concatenate([own, *halo]) if sum(map(len, halo)) else own
        product: Array = self.off_diagonal @ both
        for rows in chunks(own):
            product[rows] += self.diagonal[rows, None] * own[rows]
        return product


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


def distance_runs(block: GraphBlock, own: Array, halo: Array) -> Iterator[tuple[slice, Matrix]]:
    """‖z_i - z_j‖² of a run of edges at a time.

    ``own`` is the embedding of the block (rows, l), ``halo`` (h, l) that of its halo.
    """
    # Otherwise `np.take` would copy all rows at every call.
    own = np.require(own, requirements=["C", "ALIGNED"])
    both = np.concatenate([own, halo]) if len(halo) else own
    count = len(block.columns)
    for start in range(0, count, DISTANCE_EDGES):
        part = slice(start, min(start + DISTANCE_EDGES, count))
        owners = block.owners_of(part.start, part.stop)
        yield part, candidate_distances(own, owners, both, block.columns[part])


def semantic_weights(distances: Matrix, alpha: float, lam: float) -> Matrix:
    """S = α / (α + λ‖z_i - z_j‖²) (Eq. 15), written so that α = ∞ gives S = 1."""
    semantic = (lam / alpha) * distances
    semantic += 1.0
    return np.divide(1.0, semantic, out=semantic)


@dataclass(frozen=True)
class SystemRule:
    """How βI + λH is made of the edges (Eqs. 13, 14).

    Attributes
    ----------
    beta, lam : of Eq. 9. dtype : of the values.
    drop : edges of which λCS² is below this share of β are left out, of the diagonal too. What is
        left is the system of another graph: Z changes by at most 2·drop times the most edges of a
        row, relative to the largest column.
    """

    beta: float
    lam: float
    dtype: np.dtype[Any]
    drop: float = 0.0


@dataclass(frozen=True)
class SystemRows:
    """Some rows of a system.

    Attributes
    ----------
    diagonal : (rows,). counts : (rows,) other values of each row.
    columns, values : (edges left,) local columns and values.
    """

    diagonal: Array
    counts: NDArray[np.int64]
    columns: Array
    values: Array


def system_block(
    block: GraphBlock, semantic: Callable[[slice], Matrix] | None, rule: SystemRule
) -> SystemBlock:
    """Rows of βI + λH (Eqs. 13, 14), with C·S² worked out once.

    ``semantic`` gives S of a run of edges; None is S = 1.
    """
    count, kind = len(block.columns), block.indptr.dtype
    # Of what is left out, no page is ever touched.
    columns, values = np.empty(count, dtype=kind), np.empty(count, dtype=rule.dtype)
    diagonal, counts, used = np.empty(block.rows, dtype=rule.dtype), [], 0
    for rows in row_tiles(block.rows):
        found = system_rows(block, rows, semantic, rule)
        part = slice(used, used + len(found.values))
        diagonal[rows], columns[part], values[part] = found.diagonal, found.columns, found.values
        counts.append(found.counts)
        used = part.stop
    indptr = row_ends(counts, kind)
    shape = (block.rows, block.rows + len(block.halo))
    matrix = scipy.sparse.csr_array((values[:used], columns[:used], indptr), shape=shape)
    return SystemBlock(diagonal, matrix)


def row_ends(counts: Sequence[NDArray[np.int64]], kind: np.dtype[Any]) -> Array:
    """The ends (rows + 1,) of rows from runs of how many values each has."""
    ends: Array = np.cumsum(np.concatenate([[0], *counts])).astype(kind)
    return ends


def system_rows(
    block: GraphBlock, rows: slice, semantic: Callable[[slice], Matrix] | None, rule: SystemRule
) -> SystemRows:
    """Some rows of `system_block`."""
    part = block.edges_of(rows)
    weights, columns = block.weights[part], block.columns[part]
    owners = block.owners_of(part.start, part.stop) - rows.start
    if semantic is not None:
        weights = weights * semantic(part) ** 2
    if rule.drop:
        # Both ends of an edge see the same weight, and drop it or keep it together.
        kept = rule.lam * weights >= rule.drop * rule.beta
        weights, columns, owners = weights[kept], columns[kept], owners[kept]
    # bincount adds a row's weights in their order, which no block count changes.
    total = np.bincount(owners, weights=weights, minlength=rows.stop - rows.start)
    counts = np.bincount(owners, minlength=rows.stop - rows.start)
    return SystemRows(rule.beta + rule.lam * total, counts, columns, -rule.lam * weights)


def weight_counts(block: GraphBlock, semantic: Matrix, part: slice = _ALL) -> NDArray[np.int64]:
    """How many S (edges,) of a run of edges lie in each of `WEIGHT_BINS` equal bins of [0, 1].

    Each undirected edge counts once; S = 1 is in the last bin.
    """
    once = semantic[block.counted_once[part]]
    bins = np.minimum((once * WEIGHT_BINS).astype(np.int64), WEIGHT_BINS - 1)
    return np.bincount(bins, minlength=WEIGHT_BINS)


def edge_terms(
    block: GraphBlock, distances: Matrix, semantic: Matrix, part: slice = _ALL
) -> tuple[float, float]:
    """Σ C S²‖z_i - z_j‖² (Eq. 4) and Σ C (S - 1)² (Eq. 7), each undirected edge once.

    ``distances`` and ``semantic`` are (edges,), or of a run of edges that ``part`` names.
    """
    once = block.counted_once[part]
    weights, s, d = block.weights[part][once], semantic[once], distances[once]
    return float(np.sum(weights * s**2 * d)), float(np.sum(weights * (s - 1.0) ** 2))
