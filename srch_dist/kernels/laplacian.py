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
        return np.repeat(np.arange(self.rows), np.diff(self.indptr))


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
    owners = block.owners
    result = np.empty(len(owners))
    step = max(1, DISTANCE_VALUES // both.shape[1])
    for start in range(0, len(owners), step):
        part = slice(start, start + step)
        difference = own[owners[part]].astype(np.float64) - both[block.columns[part]]
        result[part] = np.einsum("ij,ij->i", difference, difference)
    return result


def semantic_weights(distances: Matrix, alpha: float, lam: float) -> Matrix:
    """S = α / (α + λ‖z_i - z_j‖²) (Eq. 15), written so that α = ∞ gives S = 1."""
    return 1.0 / (1.0 + (lam / alpha) * distances)


def system_block(
    block: GraphBlock, semantic: Matrix | None, beta: float, lam: float, dtype: np.dtype[Any]
) -> SystemBlock:
    """Rows of βI + λH (Eqs. 13, 14), with C·S² worked out once; ``semantic`` None is S = 1."""
    weights = block.weights if semantic is None else block.weights * semantic**2
    # bincount adds a row's weights in their order, which no block count changes.
    total = np.bincount(block.owners, weights=weights, minlength=block.rows)
    matrix = scipy.sparse.csr_array(
        ((-lam * weights).astype(dtype), block.columns, block.indptr),
        shape=(block.rows, block.rows + len(block.halo)),
    )
    return SystemBlock((beta + lam * total).astype(dtype), matrix)


def edge_terms(block: GraphBlock, distances: Matrix, semantic: Matrix) -> tuple[float, float]:
    """Σ C S²‖z_i - z_j‖² (Eq. 4) and Σ C (S - 1)² (Eq. 7), each undirected edge once."""
    once = block.counted_once
    weights, s, d = block.weights[once], semantic[once], distances[once]
    return float(np.sum(weights * s**2 * d)), float(np.sum(weights * (s - 1.0) ** 2))
