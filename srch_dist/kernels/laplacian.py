"""A block of the semantic graph: distances along edges, the rebase (Eq. 15), rows of H (Eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.edges import distinct
from srch_dist.kernels.sizes import Sized, chunks

Array = NDArray[Any]
Matrix = NDArray[np.float64]

# Values of Z at once in `edge_distances`.
DISTANCE_VALUES = 1 << 22
_TILE_ROWS = 1 << 15
_ALL = slice(None)


@dataclass(frozen=True)
class GraphBlock(Sized):
    """The edges of a run of rows, with local columns: own rows first, then the halo.

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
    columns: NDArray[Any]
    halo: NDArray[np.int64]
    weights: Matrix
    multiplicity: NDArray[np.int8]
    counted_once: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """Rows of the block."""
        return len(self.indptr) - 1

    @property
    def owners(self) -> NDArray[np.int64]:
        """The local row (edges,) that each edge starts at."""
        return self.owners_of(0, len(self.columns))

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
    off_diagonal: scipy.sparse.csr_array

    def apply(self, own: Array, halo: Array) -> Array:
        """The product with the vectors (rows, l) of the block and those (h, l) of its halo."""
        both = np.concatenate([own, halo]) if len(halo) else own
        product: Array = self.off_diagonal @ both
        for rows in chunks(own):
            product[rows] += self.diagonal[rows, None] * own[rows]
        return product


def make_block(
    first_row: int,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    weights: Array,
    trust: Array,
) -> GraphBlock:
    """Give global neighbour numbers ``indices`` (edges,) local columns; see `GraphBlock`.

    ``weights`` is (edges, modalities): C_g, zero where a modality's graph lacks the edge;
    ``trust`` (modalities,) weighs the modalities' graphs.
    """
    rows = len(indptr) - 1
    own = (indices >= first_row) & (indices < first_row + rows)
    halo = distinct(indices[~own])
    columns = np.where(own, indices - first_row, rows + np.searchsorted(halo, indices))
    # SciPy multiplies faster with narrow indices, but keeps wide ones where either array is wide.
    narrow = max(len(indices), rows + len(halo)) < np.iinfo(np.int32).max
    index = np.int32 if narrow else np.int64
    return GraphBlock(
        first_row,
        indptr.astype(index),
        columns.astype(index),
        halo,
        weights @ trust,
        (weights > 0).sum(axis=1, dtype=np.int8),
        first_row + np.repeat(np.arange(rows), np.diff(indptr)) < indices,
    )


def edge_distances(block: GraphBlock, own: Array, halo: Array) -> Matrix:
    """‖z_i - z_j‖² (edges,) from the embedding of the block (rows, l) and of its halo (h, l)."""
    both = np.concatenate([own, halo]) if len(halo) else own
    result = np.empty(len(block.columns))
    step = max(1, DISTANCE_VALUES // both.shape[1])
    for start in range(0, len(result), step):
        part = slice(start, min(start + step, len(result)))
        owners = block.owners_of(part.start, part.stop)
        difference = own[owners].astype(np.float64) - both[block.columns[part]]
        result[part] = np.einsum("ij,ij->i", difference, difference)
    return result


def semantic_weights(distances: Matrix, alpha: float, lam: float) -> Matrix:
    """S = α / (α + λ‖z_i - z_j‖²) (Eq. 15), written so that α = ∞ gives S = 1."""
    semantic = (lam / alpha) * distances
    semantic += 1.0
    return np.divide(1.0, semantic, out=semantic)


def system_block(
    block: GraphBlock, semantic: Matrix | None, beta: float, lam: float, dtype: np.dtype[Any]
) -> SystemBlock:
    """Rows of βI + λH (Eqs. 13, 14), with C·S² worked out once; ``semantic`` None is S = 1."""
    total, values = np.empty(block.rows), np.empty(len(block.columns), dtype=dtype)
    for low in range(0, block.rows, _TILE_ROWS):
        high = min(low + _TILE_ROWS, block.rows)
        part = slice(int(block.indptr[low]), int(block.indptr[high]))
        weights = block.weights[part]
        if semantic is not None:
            weights = weights * semantic[part] ** 2
        # bincount adds a row's weights in their order, which no block count changes.
        owners = block.owners_of(part.start, part.stop) - low
        total[low:high] = np.bincount(owners, weights=weights, minlength=high - low)
        values[part] = -lam * weights
    matrix = scipy.sparse.csr_array(
        (values, block.columns, block.indptr), shape=(block.rows, block.rows + len(block.halo))
    )
    return SystemBlock((beta + lam * total).astype(dtype), matrix)


def edge_terms(
    block: GraphBlock, distances: Matrix, semantic: Matrix, part: slice = _ALL
) -> tuple[float, float]:
    """Σ C S²‖z_i - z_j‖² (Eq. 4) and Σ C (S - 1)² (Eq. 7), each undirected edge once.

    ``distances`` and ``semantic`` are (edges,), or of a run of edges that ``part`` names.
    """
    once = block.counted_once[part]
    weights, s, d = block.weights[part][once], semantic[once], distances[once]
    return float(np.sum(weights * s**2 * d)), float(np.sum(weights * (s - 1.0) ** 2))
