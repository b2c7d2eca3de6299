"""A multilevel preconditioner on one block of rows, and what the blocks share of it.

M⁻¹ = D⁻¹ + Σ_k P_k E_k P_k' + P A_c⁻¹ P': Jacobi, plus a diagonal correction E_k on every level
of a `Hierarchy` (the additive method of Bramble, Pasciak and Xu, Math. Comp. 55, 1990), plus a
direct solve for the coarse unknowns. An aggregate inside the block is summed here; coarse
unknowns, and aggregates that a block's end cuts, have a slot in a vector that all blocks share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.aggregation import Hierarchy
from srch_dist.kernels.sizes import Sized, chunks

Array = NDArray[Any]
IntArray = NDArray[np.int64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Piece(Sized):
    """The part of a `Hierarchy` that rows of one block see, numbered locally.

    Attributes
    ----------
    parents, inverse : as of `Hierarchy`, with zero also for what is shared.
    slots : for each level, rows included, the shared slot (m,) of each node, -1 where none.
    top : the slot (m,) of each node of the last level that is a coarse unknown, else -1.
    """

    parents: tuple[IntArray, ...]
    inverse: tuple[Matrix, ...]
    slots: tuple[IntArray, ...]
    top: IntArray


@dataclass(frozen=True)
class SplitHierarchy(Sized):
    """A hierarchy cut at the ends of blocks.

    ``pieces`` is one a block, ``shared`` (slots,) the inverse diagonal of each slot, zero for
    the coarse unknowns, whose slots are ``top``.
    """

    pieces: tuple[Piece, ...]
    shared: Matrix
    top: IntArray


@dataclass(frozen=True)
class Cascade(Sized):
    """The preconditioner on one block.

    Attributes
    ----------
    diagonal : (rows,) of the matrix. sums : P' (m, nodes below) level by level.
    parents, inverse, top : as of `Piece`. places, slots : for each level, rows included, the
        nodes that are shared and their slots. width : number of slots of all blocks.
    """

    diagonal: Array
    sums: tuple[scipy.sparse.csr_array, ...]
    parents: tuple[IntArray, ...]
    inverse: tuple[Array, ...]
    places: tuple[IntArray, ...]
    slots: tuple[IntArray, ...]
    top: IntArray
    width: int

    def restrict(self, values: Array) -> Matrix:
        """The block's part of the shared sums (width, l), of ``values`` (rows, l)."""
        total = np.zeros((self.width, values.shape[1]))
        if self.width:
            self._fill(self._levels(values), total)
        return total

    def precondition(self, residual: Array, correction: Matrix) -> Array:
        """M⁻¹ times the residual (rows, l); ``correction`` (width, l) of the shared slots."""
        return self._descend(self._levels(residual), correction)

    def precondition_whole(self, residual: Array, shared: SharedSpace) -> Array:
        """`precondition` where this block is all there is."""
        levels = self._levels(residual)
        total = np.zeros((self.width, residual.shape[1]))
        self._fill(levels, total)
        return self._descend(levels, shared.solve(total))

    def _levels(self, values: Array) -> list[Array]:
        levels = [values]
        for sums in self.sums:
            levels.append(sums @ levels[-1])
        return levels

    def _fill(self, levels: Sequence[Array], total: Matrix) -> None:
        for values, places, slots in zip(levels, self.places, self.slots, strict=True):
            total[slots] = values[places]

    def _descend(self, levels: list[Array], correction: Matrix) -> Array:
        scales = [1 / self.diagonal, *self.inverse]
        above: Array | None = None
        for level in range(len(levels) - 1, -1, -1):
            found = np.empty_like(levels[level])
            for rows in chunks(found):
                np.multiply(levels[level][rows], scales[level][rows, None], out=found[rows])
                if above is not None:
                    found[rows] += above.take(self.parents[level][rows], axis=0)
            places = self.places[level]
            if len(places):
                found[places] += correction[self.slots[level]]
            above = found
        assert above is not None
        return above


@dataclass(frozen=True)
class SharedSpace(Sized):
    """What a sum over all blocks is solved with.

    ``inverse`` (width,) is the diagonal part; ``top`` (m,) are the slots of the coarse unknowns
    and ``dense`` (m, m) the inverse of their matrix P'AP.
    """

    inverse: Matrix
    top: IntArray
    dense: Matrix

    def solve(self, sums: Matrix) -> Matrix:
        """Corrections (width, l) from sums (width, l)."""
        result: Matrix = self.inverse[:, None] * sums
        result[self.top] = self.dense @ sums[self.top]
        return result


def jacobi(diagonal: Array) -> Cascade:
    """The cascade without aggregates: M is the diagonal (rows,)."""
    none = np.empty(0, dtype=np.int64)
    outside = np.full(len(diagonal), -1)
    return Cascade(diagonal, (), (), (), (none,), (none,), outside, 0)


def no_space() -> SharedSpace:
    """The shared space of cascades without aggregates."""
    return SharedSpace(np.empty(0), np.empty(0, dtype=np.int64), np.empty((0, 0)))


def split_hierarchy(hierarchy: Hierarchy, cuts: Sequence[int]) -> SplitHierarchy:
    """Cut a hierarchy of rows at ``cuts``: 0, the inner ends of blocks, and the number of rows."""
    labels = [np.arange(cuts[-1])]
    for parents in hierarchy.parents:
        labels.append(parents[labels[-1]])
    nodes = [np.arange(cuts[-1]), *(np.arange(len(d)) for d in hierarchy.inverse)]
    slots, shared = [], []
    used = 0
    for level, numbers in enumerate(nodes):
        found = np.full(len(numbers), -1)
        if level:
            touched = _pieces_of(labels[level], len(numbers), cuts)
            cut = np.flatnonzero((touched > 1) & (hierarchy.inverse[level - 1] > 0))
            found[cut] = used + np.arange(len(cut))
            shared.append(hierarchy.inverse[level - 1][cut])
            used += len(cut)
        slots.append(found)
    top = used + np.arange(len(hierarchy.top))
    slots[-1][hierarchy.top] = top
    shared.append(np.zeros(len(top)))
    highest = np.full(len(nodes[-1]), -1)
    highest[hierarchy.top] = top
    pieces = tuple(
        _cut_piece(hierarchy, labels, slots, highest, slice(low, high))
        for low, high in pairwise(cuts)
    )
    return SplitHierarchy(pieces, np.concatenate(shared), top)


def join_pieces(
    diagonal: Array, pieces: Sequence[Piece], offsets: Sequence[int], width: int
) -> Cascade:
    """The cascade of a block from the pieces of its runs of rows, in order.

    ``offsets`` is the first slot of each piece's run among the ``width`` slots of all.
    """
    depth = max(len(piece.parents) for piece in pieces)
    pieces = [_deepen(piece, depth) for piece in pieces]
    parents, inverse, sums = [], [], []
    for level in range(depth):
        counts = [len(piece.inverse[level]) for piece in pieces]
        starts = np.cumsum([0, *counts])
        parent = np.concatenate(
            [piece.parents[level] + start for piece, start in zip(pieces, starts, strict=False)]
        )
        parents.append(parent)
        inverse.append(np.concatenate([p.inverse[level] for p in pieces]).astype(diagonal.dtype))
        sums.append(_sum_matrix(parent, int(starts[-1]), diagonal.dtype))
    slots = [
        np.concatenate(
            [_shift(p.slots[k], offset) for p, offset in zip(pieces, offsets, strict=True)]
        )
        for k in range(depth + 1)
    ]
    top = np.concatenate([_shift(p.top, offset) for p, offset in zip(pieces, offsets, strict=True)])
    places = [np.flatnonzero(found >= 0) for found in slots]
    return Cascade(
        diagonal,
        tuple(sums),
        tuple(parents),
        tuple(inverse),
        tuple(places),
        tuple(found[where] for found, where in zip(slots, places, strict=True)),
        top,
        width,
    )


def row_unknowns(cascade: Cascade) -> IntArray:
    """The slot of the coarse unknown (rows,) that each row belongs to, -1 where none."""
    labels = cascade.top
    for parents in reversed(cascade.parents):
        labels = labels[parents]
    return labels


def shared_space(inverse: Matrix, top: IntArray, coarse: scipy.sparse.csr_array) -> SharedSpace:
    """Invert the coarse matrix P'AP, ``coarse`` (width, width) in the numbering of the slots.

    It is positive definite: no coarse unknown is without rows, and βI is below.
    """
    dense = coarse.tocsr()[top][:, top].toarray().astype(np.float64)
    inverted = np.linalg.inv(0.5 * (dense + dense.T))
    return SharedSpace(inverse, top, 0.5 * (inverted + inverted.T))


def _pieces_of(labels: IntArray, count: int, cuts: Sequence[int]) -> IntArray:
    """In how many pieces each of ``count`` aggregates has rows."""
    touched = np.zeros(count, dtype=np.int64)
    for low, high in pairwise(cuts):
        touched[np.unique(labels[low:high])] += 1
    return touched


def _cut_piece(
    hierarchy: Hierarchy,
    labels: Sequence[IntArray],
    slots: Sequence[IntArray],
    highest: IntArray,
    rows: slice,
) -> Piece:
    nodes = [np.unique(level[rows]) for level in labels]
    parents = tuple(
        np.searchsorted(nodes[k + 1], parent[nodes[k]])
        for k, parent in enumerate(hierarchy.parents)
    )
    local = tuple(found[numbers] for found, numbers in zip(slots, nodes, strict=True))
    inverse = tuple(
        np.where(local[k + 1] < 0, values[nodes[k + 1]], 0.0)
        for k, values in enumerate(hierarchy.inverse)
    )
    return Piece(parents, inverse, local, highest[nodes[-1]])


def _deepen(piece: Piece, depth: int) -> Piece:
    """The piece with levels on top that change nothing, so that all have ``depth``."""
    extra = depth - len(piece.parents)
    if extra == 0:
        return piece
    count = len(piece.top)
    return Piece(
        piece.parents + (np.arange(count),) * extra,
        piece.inverse + (np.zeros(count),) * extra,
        piece.slots + (np.full(count, -1),) * extra,
        piece.top,
    )


def _sum_matrix(parent: IntArray, count: int, dtype: np.dtype[Any]) -> scipy.sparse.csr_array:
    """P' (count, nodes): which nodes each aggregate adds up."""
    order = np.argsort(parent, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=count))])
    ones = np.ones(len(parent), dtype=dtype)
    return scipy.sparse.csr_array(
        (ones, order.astype(np.int32), indptr.astype(np.int32)), shape=(count, len(parent))
    )


def _shift(slots: IntArray, offset: int) -> IntArray:
    return np.where(slots >= 0, slots + offset, -1)
