"""Rows of the Z-step's matrix A = βI + λH (Eq. 14), H the weighted graph Laplacian (Eq. 13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import GraphBlock, SparseRows, row_tiles
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import cached_tiles
from srch_dist.kernels.types import Array, Matrix


@dataclass(frozen=True)
class SystemBlock(Sized):
    """The rows of A that belong to one block.

    Attributes
    ----------
    diagonal : (rows,).
    off_diagonal : (rows, rows + halo) -λCS², sparse.
    """

    diagonal: Array
    off_diagonal: SparseRows

    def apply(self, own: Array, *halo: Array) -> Array:
        """Multiply with vectors.

        Parameters
        ----------
        own : (rows, l) the vectors on the block.
        halo : parts (h_i, l) of the vectors on the halo, in its order.

        Returns
        -------
        (rows, l) rows of the product.
        """
        vectors = np.concatenate([own, *halo]) if sum(map(len, halo)) else own
        product: Array = self.off_diagonal @ vectors
        for rows in cached_tiles(own):
            product[rows] += self.diagonal[rows, None] * own[rows]
        return product


@dataclass(frozen=True)
class SystemRule:
    """How A follows from the edges (Eqs. 13 and 14).

    Attributes
    ----------
    beta, lam : β of Eq. 14 (Gβ/2 with G modalities) and λ.
    dtype : type of the values.
    drop : edges with λCS² below this share of β are left out, on the diagonal too, so that A stays
        βI plus a Laplacian. Z then changes by at most 2 · drop · (most edges of a row), relative
        to its largest column.
    """

    beta: float
    lam: float
    dtype: np.dtype[Any]
    drop: float = 0.0


@dataclass(frozen=True)
class SystemRows:
    """Some rows of A.

    Attributes
    ----------
    diagonal : (rows,) float64.
    counts : (rows,) off-diagonal entries of each row.
    columns, values : (entries,) local columns and values.
    """

    diagonal: Array
    counts: NDArray[np.int64]
    columns: Array
    values: Array


def system_block(
    block: GraphBlock, semantic: Callable[[slice], Matrix] | None, rule: SystemRule
) -> SystemBlock:
    """Assemble the rows of A for a block, with CS² computed once.

    Parameters
    ----------
    semantic : returns S (Eq. 15) of a run of edges; None means S = 1.
    """
    count, dtype = len(block.columns), block.indptr.dtype
    # Allocated for all edges: memory pages behind the last kept edge are never touched.
    columns, values = np.empty(count, dtype=dtype), np.empty(count, dtype=rule.dtype)
    diagonal, counts, used = np.empty(block.rows, dtype=rule.dtype), [], 0
    for rows in row_tiles(block.rows):
        tile = system_rows(block, rows, semantic, rule)
        part = slice(used, used + len(tile.values))
        diagonal[rows], columns[part], values[part] = tile.diagonal, tile.columns, tile.values
        counts.append(tile.counts)
        used = part.stop
    indptr = row_pointers(counts, dtype)
    shape = (block.rows, block.rows + len(block.halo))
    matrix = scipy.sparse.csr_array((values[:used], columns[:used], indptr), shape=shape)
    return SystemBlock(diagonal, matrix)


def row_pointers(counts: Sequence[NDArray[np.int64]], dtype: np.dtype[Any]) -> Array:
    """The CSR ``indptr`` (rows + 1,) from the entries of each row, given in parts."""
    indptr: Array = np.cumsum(np.concatenate([[0], *counts])).astype(dtype)
    return indptr


def system_rows(
    block: GraphBlock, rows: slice, semantic: Callable[[slice], Matrix] | None, rule: SystemRule
) -> SystemRows:
    """Assemble some rows of `system_block`."""
    part = block.edges_of(rows)
    weights, columns = block.weights[part], block.columns[part]
    owners = block.owners_of(part.start, part.stop) - rows.start
    if semantic is not None:
        weights = weights * semantic(part) ** 2
    if rule.drop:
        # Both ends of an edge see the same weight, so A stays symmetric.
        kept = rule.lam * weights >= rule.drop * rule.beta
        weights, columns, owners = weights[kept], columns[kept], owners[kept]
    # bincount adds the weights of a row in the order of the edges, which is the same in any block.
    total = np.bincount(owners, weights=weights, minlength=rows.stop - rows.start)
    counts = np.bincount(owners, minlength=rows.stop - rows.start)
    return SystemRows(rule.beta + rule.lam * total, counts, columns, -rule.lam * weights)
