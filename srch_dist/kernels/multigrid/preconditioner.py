"""A multilevel preconditioner on one block of rows, and what the blocks share of it.

M⁻¹ = D⁻¹ + Σ_k P_k E_k P_k' + P A_c⁻¹ P': Jacobi, plus a diagonal correction E_k on every level
of a `Hierarchy` (the additive method of Bramble, Pasciak and Xu, Math. Comp. 55, 1990), plus a
direct solve for the coarse unknowns. An aggregate inside the block is summed here; coarse
unknowns, and aggregates that a block's end cuts, have a slot in a vector that all blocks share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.linalg import lapack

from srch_dist.kernels.multigrid.aggregation import Hierarchy
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import chunks
from srch_dist.kernels.types import Array, IntArray, Matrix


@dataclass(frozen=True)
class LocalHierarchy(Sized):
    """The part of a `Hierarchy` that one block sees, numbered locally.

    Attributes
    ----------
    parents, inverse : as of `Hierarchy`, with zero also for what is shared.
    slots : for each level the shared slot (m,) of each aggregate, -1 where none.
    nodes : (m,) numbers of the last level's nodes in the hierarchy, ascending.
    """

    parents: tuple[IntArray, ...]
    inverse: tuple[Matrix, ...]
    slots: tuple[IntArray, ...]
    nodes: IntArray


@dataclass(frozen=True)
class SplitHierarchy(Sized):
    """A hierarchy of which each block has a part.

    ``pieces`` is one a block, ``shared`` (slots,) the inverse diagonal of each slot, zero for the
    coarse unknowns, which have the last ``unknowns`` slots.
    """

    pieces: tuple[LocalHierarchy, ...]
    shared: Matrix
    unknowns: int


@dataclass(frozen=True)
class Cascade(Sized):
    """The preconditioner on one block.

    Attributes
    ----------
    diagonal : (rows,) of the matrix. sums : P' (m, nodes below) level by level.
    parents, inverse : as of `LocalHierarchy`. places, slots : for each level, the aggregates that
        are shared and their slots.
    """

    diagonal: Array
    sums: tuple[scipy.sparse.csr_array, ...]
    parents: tuple[IntArray, ...]
    inverse: tuple[Array, ...]
    places: tuple[IntArray, ...]
    slots: tuple[IntArray, ...]

    @property
    def own_slots(self) -> IntArray:
        """The slots (own,) that the block has a part in, level by level."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self.slots])

    def restrict(self, values: Array) -> Array:
        """The block's part of the sums of its own slots (own, l), of ``values`` (rows, l)."""
        return self._pick(self._levels(values))

    def precondition(self, residual: Array, correction: Array) -> Array:
        """M⁻¹ times the residual (rows, l); ``correction`` (own, l) of the block's own slots."""
        return self._descend(self._levels(residual), correction)

    def precondition_whole(self, residual: Array, space: SharedCoarseSpace) -> Array:
        """`precondition` where this block is all there is."""
        levels = self._levels(residual)
        sums = space.add_up([self._pick(levels)])
        return self._descend(levels, space.correct(sums, space.solve(sums), self.own_slots))

    def _levels(self, values: Array) -> list[Array]:
        levels = [values]
        for sums in self.sums:
            levels.append(sums @ levels[-1])
        return levels

    def _pick(self, levels: list[Array]) -> Array:
        found = [np.empty((0, levels[0].shape[1]), dtype=levels[0].dtype)]
        found += [values[places] for values, places in zip(levels[1:], self.places, strict=True)]
        return np.concatenate(found)

    def _descend(self, levels: list[Array], correction: Array) -> Array:
        scales = [1 / self.diagonal, *self.inverse]
        ends = np.cumsum([0, *map(len, self.places)])
        above: Array | None = None
        for level in range(len(levels) - 1, -1, -1):
            values = levels.pop()
            found = np.empty_like(values)
            for rows in chunks(found):
                np.multiply(values[rows], scales[level][rows, None], out=found[rows])
                if above is not None:
                    found[rows] += above.take(self.parents[level][rows], axis=0)
            if level:
                found[self.places[level - 1]] += correction[ends[level - 1] : ends[level]]
            above = found
        assert above is not None
        return above


@dataclass(frozen=True)
class SharedCoarseSpace(Sized):
    """What sums over all blocks are solved with.

    ``inverse`` (width,) is the diagonal part; the last m slots are the coarse unknowns, and
    ``dense`` (m, m) the inverse of their matrix P'AP. ``slots`` are the own slots of each block.
    """

    inverse: Matrix
    dense: Matrix
    slots: tuple[IntArray, ...]

    def add_up(self, parts: Sequence[Array]) -> Array:
        """The sums (width, l) of what each block has (own, l), in the order of the blocks."""
        total = np.zeros((len(self.inverse), parts[0].shape[1]), dtype=parts[0].dtype)
        for slots, part in zip(self.slots, parts, strict=True):
            total[slots] += part
        return total

    def solve(self, sums: Array) -> Array:
        """Corrections (m, l) of the coarse unknowns, from all sums (width, l)."""
        corrections = self.dense @ sums[len(sums) - len(self.dense) :].astype(np.float64)
        return corrections.astype(sums.dtype)

    def correct(self, sums: Array, coarse: Array, slots: IntArray) -> Array:
        """Corrections (own, l) of some ``slots`` (own,), from all sums and `solve` of them."""
        result: Array = self.inverse[slots, None].astype(sums.dtype) * sums[slots]
        unknowns = slots - (len(sums) - len(coarse))
        chosen = np.flatnonzero(unknowns >= 0)
        result[chosen] = coarse[unknowns[chosen]]
        return result


def jacobi(diagonal: Array) -> Cascade:
    """The cascade without aggregates: M is the diagonal (rows,)."""
    return Cascade(diagonal, (), (), (), (), ())


def no_space(blocks: int) -> SharedCoarseSpace:
    """The shared space of cascades without aggregates."""
    return SharedCoarseSpace(np.empty(0), np.empty((0, 0)), (np.empty(0, dtype=np.int64),) * blocks)


def split_hierarchy(hierarchy: Hierarchy, members: Sequence[IntArray]) -> SplitHierarchy:
    """Give each block the part above those of the nodes, ``members`` (m,), that it sees.

    An aggregate of which several blocks have a part is shared by these, as is a coarse unknown.
    """
    touched = [_ancestors(hierarchy, nodes) for nodes in members]
    slots, shared, used = [], [], 0
    for level, inverse in enumerate(hierarchy.inverse):
        seen = np.concatenate([nodes[level + 1] for nodes in touched])
        cut = np.flatnonzero((np.bincount(seen, minlength=len(inverse)) > 1) & (inverse > 0))
        slots.append(np.full(len(inverse), -1))
        slots[-1][cut] = used + np.arange(len(cut))
        shared.append(inverse[cut])
        used += len(cut)
    unknowns = len(hierarchy.top)
    if unknowns:
        slots[-1][hierarchy.top] = used + np.arange(unknowns)
    shared.append(np.zeros(unknowns))
    pieces = tuple(_cut_piece(hierarchy, nodes, slots) for nodes in touched)
    return SplitHierarchy(pieces, np.concatenate(shared), unknowns)


def join_pieces(
    diagonal: Array, pieces: Sequence[LocalHierarchy], above: LocalHierarchy, offsets: Sequence[int]
) -> Cascade:
    """The cascade of a block from the pieces of its runs of rows, in order, and that ``above``.

    The nodes of ``above`` are those that the pieces end in, in order; without pieces, the rows.
    ``offsets`` is the first slot of each piece's hierarchy among all, that of ``above`` last.
    """
    depth = max((len(piece.parents) for piece in pieces), default=0)
    lower = [_deepen(piece, depth) for piece in pieces]
    kind = diagonal.dtype
    parents = [_stack([piece.parents[k] for piece in lower]) for k in range(depth)]
    inverse = [np.concatenate([piece.inverse[k] for piece in lower]) for k in range(depth)]
    slots = [
        np.concatenate(
            [_shift(p.slots[k], first) for p, first in zip(lower, offsets, strict=False)]
        )
        for k in range(depth)
    ]
    parents += above.parents
    inverse += above.inverse
    slots += [_shift(found, offsets[-1]) for found in above.slots]
    places = [np.flatnonzero(found >= 0) for found in slots]
    return Cascade(
        diagonal,
        tuple(_sum_matrix(p, len(i), kind) for p, i in zip(parents, inverse, strict=True)),
        tuple(parents),
        tuple(values.astype(kind) for values in inverse),
        tuple(places),
        tuple(found[where] for found, where in zip(slots, places, strict=True)),
    )


def row_unknowns(cascade: Cascade, first: int) -> IntArray:
    """The coarse unknown (rows,) that each row belongs to, -1 where none; ``first`` is its slot."""
    labels = np.full(len(cascade.inverse[-1]), -1)
    labels[cascade.places[-1]] = np.maximum(cascade.slots[-1] - first, -1)
    for parents in reversed(cascade.parents):
        labels = labels[parents]
    return labels


def shared_space(
    inverse: Matrix, coarse: scipy.sparse.csr_array, slots: Sequence[IntArray]
) -> SharedCoarseSpace:
    """Invert the coarse matrix P'AP, ``coarse`` (m, m); see `SharedCoarseSpace`.

    It is positive definite: no coarse unknown is without rows, and βI is below.
    """
    dense = coarse.toarray().astype(np.float64)
    return SharedCoarseSpace(inverse, _inverted(0.5 * (dense + dense.T)), tuple(slots))


def _inverted(matrix: Matrix) -> Matrix:
    """The inverse (m, m) of a symmetric matrix.

    By Cholesky's factors, which take a third of the time of `numpy.linalg.inv`. Where λ is many
    powers of ten above β, sums of single precision may not be positive definite any more.
    """
    if not len(matrix):
        return matrix
    factor, failed = lapack.dpotrf(matrix, lower=True)
    if failed:
        inverted = np.linalg.inv(matrix)
        return 0.5 * (inverted + inverted.T)
    lower, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    whole: Matrix = np.tril(lower) + np.tril(lower, -1).T
    return whole


def _ancestors(hierarchy: Hierarchy, nodes: IntArray) -> list[IntArray]:
    """The nodes (m,) of each level above ``nodes`` (m,), with these first; ascending."""
    found = [nodes]
    for parents in hierarchy.parents:
        found.append(np.unique(parents[found[-1]]))
    return found


def _cut_piece(
    hierarchy: Hierarchy, nodes: Sequence[IntArray], slots: Sequence[IntArray]
) -> LocalHierarchy:
    parents = tuple(
        np.searchsorted(nodes[k + 1], parent[nodes[k]])
        for k, parent in enumerate(hierarchy.parents)
    )
    local = tuple(found[numbers] for found, numbers in zip(slots, nodes[1:], strict=True))
    inverse = tuple(
        np.where(found < 0, values[numbers], 0.0)
        for found, values, numbers in zip(local, hierarchy.inverse, nodes[1:], strict=True)
    )
    return LocalHierarchy(parents, inverse, local, nodes[-1])


def _deepen(piece: LocalHierarchy, depth: int) -> LocalHierarchy:
    """The piece with levels on top that change nothing, so that all have ``depth``."""
    extra, count = depth - len(piece.parents), len(piece.nodes)
    return LocalHierarchy(
        piece.parents + (np.arange(count),) * extra,
        piece.inverse + (np.zeros(count),) * extra,
        piece.slots + (np.full(count, -1),) * extra,
        piece.nodes,
    )


def _stack(parents: Sequence[IntArray]) -> IntArray:
    """Parents of runs of nodes in one numbering; each run's aggregates have no gaps."""
    starts = np.cumsum([0, *(int(found.max()) + 1 for found in parents)])
    return np.concatenate([found + start for found, start in zip(parents, starts, strict=False)])


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
