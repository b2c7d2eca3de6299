"""The preconditioner over all blocks: a cascade of aggregates a block, and the coarse matrix."""

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
    zone_runs,
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
    row_unknowns,
)
from srch_dist.kernels.types import Array, IntArray
from srch_dist.runtime import tasks

_NO_SLOTS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Preconditioner:
    """Handles of each block's preconditioner and slots, and of the shared coarse space."""

    cascades: Sequence[Delayed]
    slots: Sequence[Delayed]
    space: Delayed


def build_preconditioner(
    graph: BlockGraph, systems: Sequence[Delayed], beta: float, options: SolverConfig
) -> Preconditioner:
    """Aggregate the rows of the systems βI + λH; plain Jacobi where ``options`` say so."""
    plan = graph.plan
    quota = coarse_unknowns(plan.rows, options.coarse)
    if not quota:
        cascades = tasks.persist([tasks.task(_plain, system) for system in systems])
        space = tasks.as_task_input(empty_coarse_space(len(cascades)))
        return Preconditioner(cascades, [tasks.as_task_input(_NO_SLOTS)] * len(cascades), space)
    runs = zone_runs(plan)
    found = build_aggregates(graph, systems, runs, beta, quota)
    cascades = tasks.persist([_block_cascade(b, systems[b], runs, found) for b in plan.blocks])
    slots = tasks.persist([tasks.task(_own_slots, cascade) for cascade in cascades])
    labels = [tasks.task(row_unknowns, cascade, found.first_unknown) for cascade in cascades]
    halos = graph.exchange(labels)
    parts = []
    for run in runs:
        b, first = run.block, plan.block_span(run.block)[0]
        rows = slice(run.low - first, run.high - first)
        with graph.place(run.zone):
            part = tasks.task(_coarse_part, rows, systems[b], labels[b], halos[b], found.unknowns)
        parts.append(part)
    coarse = tasks.add_up(parts)
    shared = [tasks.task(_shared, split) for split in (*found.zones, found.above)]
    (space,) = tasks.persist([tasks.task(_space, coarse, len(slots), *slots, *shared)])
    return Preconditioner(cascades, slots, space)


def _block_cascade(
    block: int, system: Delayed, runs: Sequence[RowRange], found: Hierarchies
) -> Delayed:
    own = [run for run in runs if run.block == block] if found.zones else []
    pieces = [tasks.task(_piece, found.zones[run.zone], run.piece) for run in own]
    pieces.append(tasks.task(_piece, found.above, block))
    offsets = tuple(found.starts[run.zone] for run in own)
    return tasks.task(_join, system, (*offsets, found.starts[-2]), *pieces)


def _plain(system: SystemBlock) -> MultilevelPreconditioner:
    return jacobi_preconditioner(system.diagonal)


def _own_slots(cascade: MultilevelPreconditioner) -> IntArray:
    return cascade.own_slots


def _shared(split: SplitHierarchy) -> Array:
    return split.shared


def _piece(split: SplitHierarchy, number: int) -> LocalHierarchy:
    return split.local[number]


def _join(
    system: SystemBlock, offsets: tuple[int, ...], *pieces: LocalHierarchy
) -> MultilevelPreconditioner:
    return assemble_preconditioner(system.diagonal, pieces[:-1], pieces[-1], offsets)


def _coarse_part(
    rows: slice, system: SystemBlock, labels: IntArray, halo: IntArray, unknowns: int
) -> scipy.sparse.csr_array:
    """What some ``rows`` of a block add to P'AP (m, m).

    ``labels`` (rows,) and ``halo`` (h,) are the coarse unknowns of the block's rows and its halo.
    """
    both, shape = np.concatenate([labels, halo]), (unknowns, unknowns)
    own, diagonal = labels[rows], system.diagonal[rows]
    total: Any = scipy.sparse.coo_array(
        (diagonal[own >= 0].astype(np.float64), (own[own >= 0],) * 2), shape=shape
    ).tocsr()
    for tile in row_tiles(len(own)):
        matrix = system.off_diagonal[rows.start + tile.start : rows.start + tile.stop]
        starts, ends = np.repeat(own[tile], np.diff(matrix.indptr)), both[matrix.indices]
        inside = (starts >= 0) & (ends >= 0)
        values = matrix.data[inside].astype(np.float64)
        total += scipy.sparse.coo_array(
            (values, (starts[inside], ends[inside])), shape=shape
        ).tocsr()
    return scipy.sparse.csr_array(total)


def _space(coarse: scipy.sparse.csr_array, blocks: int, *parts: Array) -> SharedCoarseSpace:
    """From the own slots of the blocks, then the inverse diagonals of the hierarchies."""
    return build_coarse_space(np.concatenate(parts[blocks:]), coarse, parts[:blocks])
