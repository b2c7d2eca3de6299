"""A block of the semantic graph: distances along edges, the rebase (Eq. 15), rows of H (Eq. 13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import GraphBlock, SparseRows, row_tiles
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import chunks
from srch_dist.kernels.types import Array, Matrix


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
