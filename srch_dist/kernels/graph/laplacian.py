"""Assemble rows of the Z-step's matrix A = βI + λH (Eq. 14); H is the graph Laplacian (Eq. 13)."""

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
    diagonal : (rows,) diagonal of A.
    off_diagonal : (rows, rows + h) sparse, entries -λCS². The last h columns are the halo: the
        block's neighbour rows in other blocks.
    """

    diagonal: Array
    off_diagonal: SparseRows

    def apply(self, own: Array, *halo: Array) -> Array:
        """Multiply these rows of A with l vectors.

        Parameters
        ----------
        own : (rows, l) the vectors at the block's rows.
        halo : arrays (h_i, l), whose concatenation (h, l) holds the vectors at the halo rows.

        Returns
        -------
        The block's rows (rows, l) of the product.
        """
        vectors = np.concatenate([own, *halo]) if sum(map(len, halo)) else own
        product: Array = self.off_diagonal @ vectors
        for rows in cached_tiles(own):
            product[rows] += self.diagonal[rows, None] * own[rows]
        return product


@dataclass(frozen=True)
class SystemRule:
    """Parameters that define A for given edges (Eqs. 13 and 14).

    Attributes
    ----------
    beta, lam : β of Eq. 14 (Gβ/2 with G modalities) and λ.
    dtype : type of the values.
    drop : share of β. Edges with λCS² below drop · β are left out of the rows and of the diagonal,
        so A is still βI plus a Laplacian. The relative change of Z is at most 2 · drop · (largest
        number of edges of a row).
    """

    beta: float
    lam: float
    dtype: np.dtype[Any]
    drop: float = 0.0


@dataclass(frozen=True)
class SystemRows:
    """Consecutive rows of A, in CSR form.

    Attributes
    ----------
    diagonal : (rows,) float64.
    counts : (rows,) number of off-diagonal entries of each row.
    columns, values : (entries,) local column (see `GraphBlock`) and value of each such entry.
    """

    diagonal: Array
    counts: NDArray[np.int64]
    columns: Array
    values: Array


def system_block(
    block: GraphBlock, semantic: Callable[[slice], Matrix] | None, rule: SystemRule
) -> SystemBlock:
    """Assemble the rows of A for a block.

    Parameters
    ----------
    semantic : function that returns S (Eq. 15) for a slice of edges; None means S = 1.
    """
    count, dtype = len(block.columns), block.indptr.dtype
    # Allocate for all edges: pages after the last kept edge are never written and use no memory.
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
    """Compute the CSR ``indptr`` (rows + 1,).

    ``counts``, concatenated, has the number of entries of each row.
    """
    indptr: Array = np.cumsum(np.concatenate([[0], *counts])).astype(dtype)
    return indptr


def system_rows(
    block: GraphBlock, rows: slice, semantic: Callable[[slice], Matrix] | None, rule: SystemRule
) -> SystemRows:
    """Assemble the ``rows`` of A for a block; see `system_block`."""
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
