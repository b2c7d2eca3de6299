"""Distributed preconditioner: additive, multilevel in each block, with a shared coarse space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from dask.delayed import Delayed

from srch_dist.algorithm.solver.aggregation import (
    Hierarchies,
    RowRange,
    build_aggregates,
    subdomain_ranges,
)
from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.config.options import SolverConfig
from srch_dist.kernels.graph.block import row_tiles
from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.aggregation import coarse_unknowns
from srch_dist.kernels.multigrid.preconditioner import (
    LocalHierarchy,
    MultilevelPreconditioner,
    SharedCoarseSpace,
    SplitHierarchy,
    assemble_preconditioner,
    build_coarse_space,
    empty_coarse_space,
    jacobi_preconditioner,
    restriction,
    row_unknowns,
)
from srch_dist.kernels.types import Array, IntArray
from srch_dist.runtime import tasks

_NO_SLOTS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Preconditioner:
    """Parts of the distributed preconditioner, on the workers.

    Attributes
    ----------
    levels : a `MultilevelPreconditioner` per block.
    slots : per block, the slots (own,) of the shared vector that the block contributes to.
    space : the `SharedCoarseSpace` of all blocks.
    """

    levels: Sequence[Delayed]
    slots: Sequence[Delayed]
    space: Delayed


def build_preconditioner(
    graph: BlockGraph, systems: Sequence[Delayed], beta: float, options: SolverConfig
) -> Preconditioner:
    """Build the preconditioner of βI + λH: aggregation, or Jacobi if ``solver.coarse`` is off."""
    plan = graph.plan
    quota = coarse_unknowns(plan.rows, options.coarse)
    if not quota:
        levels = tasks.persist([tasks.task(_plain, system) for system in systems])
        space = tasks.as_task_input(empty_coarse_space(len(levels)))
        return Preconditioner(levels, [tasks.as_task_input(_NO_SLOTS)] * len(levels), space)
    ranges = subdomain_ranges(plan)
    found = build_aggregates(graph, systems, ranges, beta, quota)
    levels = tasks.persist([_block_levels(b, systems[b], ranges, found) for b in plan.blocks])
    slots = tasks.persist([tasks.field(one, "own_slots") for one in levels])
    labels = [tasks.task(row_unknowns, one, found.first_unknown) for one in levels]
    halos = graph.exchange(labels)
    parts = []
    for r in ranges:
        b, first = r.block, plan.block_span(r.block)[0]
        rows = slice(r.low - first, r.high - first)
        with graph.place(r.subdomain):
            part = tasks.task(_coarse_part, rows, systems[b], labels[b], halos[b], found.unknowns)
        parts.append(part)
    coarse = tasks.add_up(parts)
    shared = [tasks.field(split, "shared") for split in (*found.subdomains, found.above)]
    (space,) = tasks.persist([tasks.task(_space, coarse, len(slots), *slots, *shared)])
    return Preconditioner(levels, slots, space)


def _block_levels(
    block: int, system: Delayed, ranges: Sequence[RowRange], found: Hierarchies
) -> Delayed:
    own = [r for r in ranges if r.block == block] if found.subdomains else []
    parts = [tasks.task(_part, found.subdomains[r.subdomain], r.part) for r in own]
    parts.append(tasks.task(_part, found.above, block))
    offsets = tuple(found.starts[r.subdomain] for r in own)
    return tasks.task(_join, system, (*offsets, found.starts[-2]), *parts)


def _plain(system: SystemBlock) -> MultilevelPreconditioner:
    return jacobi_preconditioner(system.diagonal)


def _part(split: SplitHierarchy, number: int) -> LocalHierarchy:
    return split.local[number]


def _join(
    system: SystemBlock, offsets: tuple[int, ...], *parts: LocalHierarchy
) -> MultilevelPreconditioner:
    return assemble_preconditioner(system.diagonal, parts[:-1], parts[-1], offsets)


def _coarse_part(
    rows: slice, system: SystemBlock, labels: IntArray, halo: IntArray, unknowns: int
) -> scipy.sparse.csr_array:
    """Compute the part of the Galerkin coarse operator PᵀAP (m, m) from some rows of a block.

    ``labels`` (rows,) is the coarse unknown of each row in the block, ``halo`` (h,) that of each
    halo row; -1 is none. ``unknowns`` is the number m.
    """
    # Rows without a coarse unknown get the number m, whose entries are cut off.
    both = np.concatenate([labels, halo]).astype(np.int32)
    both[both < 0] = unknowns
    own, diagonal = both[: len(labels)][rows], system.diagonal[rows]
    shape = (unknowns + 1, unknowns + 1)
    sums = np.bincount(own, weights=diagonal, minlength=unknowns + 1)
    total: Any = scipy.sparse.csr_array(scipy.sparse.diags_array(sums))
    for tile in row_tiles(len(own)):
        matrix = system.off_diagonal[rows.start + tile.start : rows.start + tile.stop]
        ends = both[matrix.indices]
        entries = (matrix.data.astype(np.float64), ends, matrix.indptr)
        coarse = scipy.sparse.csr_array(entries, shape=(len(matrix.indptr) - 1, shape[1]))
        total += restriction(own[tile], shape[0], coarse.dtype) @ coarse
    return scipy.sparse.csr_array(total[:-1, :-1])


def _space(coarse: scipy.sparse.csr_array, blocks: int, *parts: Array) -> SharedCoarseSpace:
    """Build the coarse space from PᵀAP (m, m), slots and smoothers.

    ``parts`` holds first one array for each of the ``blocks``: the slots (own,) that the block
    contributes to. Then follows one array for each hierarchy, in slot order: the smoothers (slots,)
    of the hierarchy's slots.
    """
    return build_coarse_space(np.concatenate(parts[blocks:]), coarse, parts[:blocks])
