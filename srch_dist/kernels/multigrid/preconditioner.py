"""Additive multilevel preconditioner (BPX) on one block of rows, and the shared coarse space.

M⁻¹ = D⁻¹ + Σ_k P_k E_k P_k' + P A_c⁻¹ P'. D is the diagonal of A = βI + λH (Jacobi). E_k is the
diagonal smoother of level k of a `Hierarchy`. A_c = P'AP is the Galerkin coarse operator of the
coarse unknowns, solved directly. J. Bramble, J. Pasciak and J. Xu, "Parallel multilevel
preconditioners", Math. Comp. 55, 1990.

All levels act on the same residual, so blocks exchange one vector per application. Each block sums
the aggregates that lie inside the block. Shared are aggregates in several blocks, and the coarse
unknowns: each has one entry (slot) in a vector that is summed over all blocks. In shapes,
``width`` is the number of all slots, and ``own`` the number of slots that one block adds to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.linalg import lapack

from srch_dist.kernels.multigrid.aggregation import Hierarchy
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import cached_tiles
from srch_dist.kernels.types import Array, IntArray, Matrix


@dataclass(frozen=True)
class LocalHierarchy(Sized):
    """The part of a `Hierarchy` above the rows of one block, with numbers local to the block.

    Attributes
    ----------
    parents : as in `Hierarchy`.
    smoothers : as in `Hierarchy`, but 0 for shared aggregates, which `SharedCoarseSpace` corrects.
    slots : for each level, the slot (m_k,) of each aggregate; -1 for aggregates not shared.
    coarsest : ascending numbers, in the `Hierarchy`, of the block's nodes on the last level.
    """

    parents: tuple[IntArray, ...]
    smoothers: tuple[Matrix, ...]
    slots: tuple[IntArray, ...]
    coarsest: IntArray


@dataclass(frozen=True)
class SplitHierarchy(Sized):
    """A hierarchy split into the local hierarchies of the blocks.

    Attributes
    ----------
    local : one `LocalHierarchy` per block.
    shared : (slots,) the smoother of each slot; 0 for coarse unknowns.
    unknowns : number of coarse unknowns, which have the last slots.
    """

    local: tuple[LocalHierarchy, ...]
    shared: Matrix
    unknowns: int


@dataclass(frozen=True)
class MultilevelPreconditioner(Sized):
    """The preconditioner on one block, which has m_k nodes on level k.

    Attributes
    ----------
    diagonal : (rows,) diagonal of A.
    restrictions : for each level, the restriction (m_k, m_{k-1}) CSR from the finer level.
    parents, smoothers : as in `LocalHierarchy`.
    shared : for each level, the numbers of the shared aggregates.
    slots : for each level, the slots of the shared aggregates.
    """

    diagonal: Array
    restrictions: tuple[scipy.sparse.csr_array, ...]
    parents: tuple[IntArray, ...]
    smoothers: tuple[Array, ...]
    shared: tuple[IntArray, ...]
    slots: tuple[IntArray, ...]

    @property
    def own_slots(self) -> IntArray:
        """Slots (own,) that this block contributes to, level by level."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self.slots])

    def restrict(self, values: Array) -> Array:
        """Sum ``values`` (rows, l) into (own, l), the slots that the block contributes to."""
        return self._shared_entries(self._restrict_levels(values))

    def precondition(self, residual: Array, correction: Array) -> Array:
        """Apply M⁻¹ to the block's residual.

        Parameters
        ----------
        residual : (rows, l) residual.
        correction : (own, l) corrections of the block's slots, from `SharedCoarseSpace.correct`.

        Returns
        -------
        Preconditioned residual (rows, l), of the dtype of ``residual``.
        """
        return self._prolongate(self._restrict_levels(residual), correction)

    def precondition_single_block(self, residual: Array, space: SharedCoarseSpace) -> Array:
        """Apply M⁻¹ to the residual (rows, l) if the whole system is one block."""
        levels = self._restrict_levels(residual)
        sums = space.add_up([self._shared_entries(levels)])
        return self._prolongate(levels, space.correct(sums, space.solve(sums), self.own_slots))

    def _restrict_levels(self, values: Array) -> list[Array]:
        """Restrict ``values`` to every level; the first entry is ``values`` itself (level 0)."""
        levels = [values]
        for restriction in self.restrictions:
            levels.append(restriction @ levels[-1])
        return levels

    def _shared_entries(self, levels: list[Array]) -> Array:
        """Select the entries (own, l) of shared aggregates, level by level."""
        entries = [np.empty((0, levels[0].shape[1]), dtype=levels[0].dtype)]
        entries += [values[shared] for values, shared in zip(levels[1:], self.shared, strict=True)]
        return np.concatenate(entries)

    def _prolongate(self, levels: list[Array], correction: Array) -> Array:
        """Smooth all levels, prolongate and sum them on level 0. ``levels`` is empty afterwards."""
        scales = [1 / self.diagonal, *self.smoothers]
        ends = np.cumsum([0, *map(len, self.shared)])
        coarser: Array | None = None
        for level in range(len(levels) - 1, -1, -1):
            values = levels.pop()
            smoothed = np.empty_like(values)
            for rows in cached_tiles(smoothed):
                np.multiply(values[rows], scales[level][rows, None], out=smoothed[rows])
                if coarser is not None:
                    smoothed[rows] += coarser.take(self.parents[level][rows], axis=0)
            if level:
                smoothed[self.shared[level - 1]] += correction[ends[level - 1] : ends[level]]
            coarser = smoothed
        assert coarser is not None
        return coarser


@dataclass(frozen=True)
class SharedCoarseSpace(Sized):
    """The part of the preconditioner that needs sums over all blocks.

    A slot is an entry of the shared vector: a shared aggregate or a coarse unknown.

    Attributes
    ----------
    smoother : (width,) diagonal smoother of each slot. The last m slots are the m coarse
        unknowns.
    coarse_inverse : (m, m) inverse of the Galerkin coarse operator A_c = P'AP.
    slots : for each block, an array (own,): numbers of the slots that the block contributes to.
    """

    smoother: Matrix
    coarse_inverse: Matrix
    slots: tuple[IntArray, ...]

    def add_up(self, parts: Sequence[Array]) -> Array:
        """Sum the contributions of all blocks, each (own, l), into (width, l), in block order."""
        total = np.zeros((len(self.smoother), parts[0].shape[1]), dtype=parts[0].dtype)
        for slots, part in zip(self.slots, parts, strict=True):
            total[slots] += part
        return total

    def solve(self, sums: Array) -> Array:
        """Solve for the coarse unknowns (m, l): A_c⁻¹ times the last m entries of ``sums``."""
        unknowns = len(self.coarse_inverse)
        corrections = self.coarse_inverse @ sums[len(sums) - unknowns :].astype(np.float64)
        return corrections.astype(sums.dtype)

    def correct(self, sums: Array, coarse: Array, slots: IntArray) -> Array:
        """Compute the corrections of one block's slots.

        Parameters
        ----------
        sums : (width, l) from `add_up`.
        coarse : (m, l) from `solve`.
        slots : (own,) the slots that the block contributes to.

        Returns
        -------
        Corrections (own, l).
        """
        result: Array = self.smoother[slots, None].astype(sums.dtype) * sums[slots]
        unknowns = slots - (len(sums) - len(coarse))
        chosen = np.flatnonzero(unknowns >= 0)
        result[chosen] = coarse[unknowns[chosen]]
        return result


def jacobi_preconditioner(diagonal: Array) -> MultilevelPreconditioner:
    """Make the Jacobi preconditioner: no levels, and M is the diagonal (rows,) of A."""
    return MultilevelPreconditioner(diagonal, (), (), (), (), ())


def empty_coarse_space(blocks: int) -> SharedCoarseSpace:
    """Make the shared coarse space of Jacobi preconditioners, which has no slots."""
    return SharedCoarseSpace(np.empty(0), np.empty((0, 0)), (np.empty(0, dtype=np.int64),) * blocks)


def split_hierarchy(hierarchy: Hierarchy, members: Sequence[IntArray]) -> SplitHierarchy:
    """Split a hierarchy into one local hierarchy per block.

    All coarse unknowns are shared. Any other aggregate is shared if its smoother is positive and
    its nodes are in several blocks.

    Parameters
    ----------
    members : for each block, its nodes (m,) of level 0, ascending.
    """
    touched = [_ancestors(hierarchy, nodes) for nodes in members]
    slots, shared, used = [], [], 0
    for level, smoother in enumerate(hierarchy.smoothers):
        seen = np.concatenate([nodes[level + 1] for nodes in touched])
        cut = np.flatnonzero((np.bincount(seen, minlength=len(smoother)) > 1) & (smoother > 0))
        slots.append(np.full(len(smoother), -1))
        slots[-1][cut] = used + np.arange(len(cut))
        shared.append(smoother[cut])
        used += len(cut)
    unknowns = len(hierarchy.coarse_nodes)
    if unknowns:
        slots[-1][hierarchy.coarse_nodes] = used + np.arange(unknowns)
    shared.append(np.zeros(unknowns))
    local = tuple(_local_hierarchy(hierarchy, nodes, slots) for nodes in touched)
    return SplitHierarchy(local, np.concatenate(shared), unknowns)


def assemble_preconditioner(
    diagonal: Array,
    subdomains: Sequence[LocalHierarchy],
    joint: LocalHierarchy,
    offsets: Sequence[int],
) -> MultilevelPreconditioner:
    """Build a block's preconditioner from its local hierarchies.

    Parameters
    ----------
    diagonal : (rows,) diagonal of A.
    subdomains : local hierarchies of the subdomains that the block overlaps, in row order.
    joint : local part of the hierarchy over all subdomains. The nodes of its level 0 are the
        coarsest nodes of ``subdomains``, in order, or the rows if there are no subdomains.
    offsets : first slot of each subdomain's hierarchy, then first slot of ``joint``.
    """
    depth = max((len(part.parents) for part in subdomains), default=0)
    lower = [_pad_levels(part, depth) for part in subdomains]
    dtype = diagonal.dtype
    parents = [_stack_parents([part.parents[k] for part in lower]) for k in range(depth)]
    smoothers = [np.concatenate([part.smoothers[k] for part in lower]) for k in range(depth)]
    slots = [
        np.concatenate(
            [_shift(part.slots[k], first) for part, first in zip(lower, offsets, strict=False)]
        )
        for k in range(depth)
    ]
    parents += joint.parents
    smoothers += joint.smoothers
    slots += [_shift(level, offsets[-1]) for level in joint.slots]
    shared = [np.flatnonzero(level >= 0) for level in slots]
    return MultilevelPreconditioner(
        diagonal,
        tuple(restriction(p, len(e), dtype) for p, e in zip(parents, smoothers, strict=True)),
        tuple(parents),
        tuple(smoother.astype(dtype) for smoother in smoothers),
        tuple(shared),
        tuple(level[nodes] for level, nodes in zip(slots, shared, strict=True)),
    )


def row_unknowns(preconditioner: MultilevelPreconditioner, first: int) -> IntArray:
    """Find the coarse unknown that each row belongs to.

    Parameters
    ----------
    first : slot of the first coarse unknown.

    Returns
    -------
    Index (rows,) int64 of each row's coarse unknown; -1 for a row without a coarse unknown.
    """
    labels = np.full(len(preconditioner.smoothers[-1]), -1)
    labels[preconditioner.shared[-1]] = np.maximum(preconditioner.slots[-1] - first, -1)
    for parents in reversed(preconditioner.parents):
        labels = labels[parents]
    return labels


def build_coarse_space(
    smoother: Matrix, coarse: scipy.sparse.csr_array, slots: Sequence[IntArray]
) -> SharedCoarseSpace:
    """Build the coarse space: invert the Galerkin coarse operator.

    Parameters
    ----------
    smoother, slots : see `SharedCoarseSpace`.
    coarse : (m, m) CSR of P'AP. P'AP is positive definite, since every coarse unknown has rows and
        A - βI is positive semidefinite.
    """
    dense = coarse.toarray().astype(np.float64)
    return SharedCoarseSpace(smoother, _inverse(0.5 * (dense + dense.T)), tuple(slots))


def restriction(parent: NDArray[Any], count: int, dtype: np.dtype[Any]) -> scipy.sparse.csr_array:
    """Make the restriction P' (count, m) as CSR: row j sums the nodes of aggregate j."""
    order = np.argsort(parent, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=count))])
    ones = np.ones(len(parent), dtype=dtype)
    return scipy.sparse.csr_array(
        (ones, order.astype(np.int32), indptr.astype(np.int32)), shape=(count, len(parent))
    )


def _inverse(matrix: Matrix) -> Matrix:
    """Invert a symmetric matrix (m, m).

    Cholesky factors take a third of the time of `numpy.linalg.inv`, which is the fallback. If λ is
    many powers of ten above β, rounding of single-precision sums may make the matrix indefinite. A
    Cholesky factor does not exist then.
    """
    if not len(matrix):
        return matrix
    factor, failed = lapack.dpotrf(matrix, lower=True)
    if failed:
        inverse = np.linalg.inv(matrix)
        return 0.5 * (inverse + inverse.T)
    lower, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    symmetric: Matrix = np.tril(lower) + np.tril(lower, -1).T
    return symmetric


def _ancestors(hierarchy: Hierarchy, nodes: IntArray) -> list[IntArray]:
    """List ``nodes`` (m,) of level 0, then their aggregates (m_k,) on each level, ascending."""
    levels = [nodes]
    for parents in hierarchy.parents:
        levels.append(np.unique(parents[levels[-1]]))
    return levels


def _local_hierarchy(
    hierarchy: Hierarchy, nodes: Sequence[IntArray], slots: Sequence[IntArray]
) -> LocalHierarchy:
    """Extract a block's local hierarchy.

    ``nodes`` has one array per level from 0: the block's nodes. ``slots`` has one array per level
    from 1: the slot of every aggregate of ``hierarchy``, -1 for aggregates that are not shared.
    """
    parents = tuple(
        np.searchsorted(nodes[k + 1], parent[nodes[k]])
        for k, parent in enumerate(hierarchy.parents)
    )
    local = tuple(level[numbers] for level, numbers in zip(slots, nodes[1:], strict=True))
    smoothers = tuple(
        np.where(own < 0, smoother[numbers], 0.0)
        for own, smoother, numbers in zip(local, hierarchy.smoothers, nodes[1:], strict=True)
    )
    return LocalHierarchy(parents, smoothers, local, nodes[-1])


def _pad_levels(part: LocalHierarchy, depth: int) -> LocalHierarchy:
    """Append identity levels with smoother 0, until there are ``depth`` levels."""
    extra, count = depth - len(part.parents), len(part.coarsest)
    return LocalHierarchy(
        part.parents + (np.arange(count),) * extra,
        part.smoothers + (np.zeros(count),) * extra,
        part.slots + (np.full(count, -1),) * extra,
        part.coarsest,
    )


def _stack_parents(parents: Sequence[IntArray]) -> IntArray:
    """Concatenate arrays of parents, and number the aggregates of all arrays consecutively.

    In each array of ``parents``, the aggregates are numbered from 0.
    """
    starts = np.cumsum([0, *(int(part.max()) + 1 for part in parents)])
    return np.concatenate([part + start for part, start in zip(parents, starts, strict=False)])


def _shift(slots: IntArray, offset: int) -> IntArray:
    return np.where(slots >= 0, slots + offset, -1)
