"""The preconditioner over all blocks: a cascade of aggregates a block, and the coarse matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.config import SolverConfig
from srch_dist.kernels.aggregation import coarse_unknowns
from srch_dist.kernels.cascade import (
    Cascade,
    Piece,
    SharedSpace,
    SplitHierarchy,
    jacobi,
    join_pieces,
    no_space,
    row_unknowns,
    shared_space,
)
from srch_dist.kernels.laplacian import SystemBlock, row_tiles
from srch_dist.solver.aggregates import Hierarchies, Run, build_aggregates, zone_runs
from srch_dist.solver.blocks import BlockGraph

Array = NDArray[Any]
IntArray = NDArray[np.int64]
_NO_SLOTS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Preconditioner:
    """Handles of the `Cascade` and its own slots of each block, and of the `SharedSpace` of all."""

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
        cascades = execution.keep([execution.task(_plain, system) for system in systems])
        space = execution.literal(no_space(len(cascades)))
        return Preconditioner(cascades, [execution.literal(_NO_SLOTS)] * len(cascades), space)
    runs = zone_runs(plan)
    found = build_aggregates(graph, systems, runs, beta, quota)
    cascades = execution.keep([_block_cascade(b, systems[b], runs, found) for b in plan.blocks])
    slots = execution.keep([execution.task(_own_slots, cascade) for cascade in cascades])
    labels = [execution.task(row_unknowns, cascade, found.first_unknown) for cascade in cascades]
    coarse = execution.add_up(
        [
            execution.task(_coarse_part, system, own, halo, found.unknowns)
            for system, own, halo in zip(systems, labels, graph.exchange(labels), strict=True)
        ]
    )
    shared = [execution.task(_shared, split) for split in (*found.zones, found.above)]
    (space,) = execution.keep([execution.task(_space, coarse, len(slots), *slots, *shared)])
    return Preconditioner(cascades, slots, space)


def _block_cascade(block: int, system: Delayed, runs: Sequence[Run], found: Hierarchies) -> Delayed:
    own = [run for run in runs if run.block == block] if found.zones else []
    pieces = [execution.task(_piece, found.zones[run.zone], run.piece) for run in own]
    pieces.append(execution.task(_piece, found.above, block))
    offsets = tuple(found.starts[run.zone] for run in own)
    return execution.task(_join, system, (*offsets, found.starts[-2]), *pieces)


def _plain(system: SystemBlock) -> Cascade:
    return jacobi(system.diagonal)


def _own_slots(cascade: Cascade) -> IntArray:
    return cascade.own_slots


def _shared(split: SplitHierarchy) -> Array:
    return split.shared


def _piece(split: SplitHierarchy, number: int) -> Piece:
    return split.pieces[number]


def _join(system: SystemBlock, offsets: tuple[int, ...], *pieces: Piece) -> Cascade:
    return join_pieces(system.diagonal, pieces[:-1], pieces[-1], offsets)


def _coarse_part(
    system: SystemBlock, own: IntArray, halo: IntArray, unknowns: int
) -> scipy.sparse.csr_array:
    """A block's part of P'AP (m, m) over the coarse unknowns of its rows and halo."""
    both, shape = np.concatenate([own, halo]), (unknowns, unknowns)
    total: Any = scipy.sparse.coo_array(
        (system.diagonal[own >= 0].astype(np.float64), (own[own >= 0],) * 2), shape=shape
    ).tocsr()
    for part in row_tiles(len(own)):
        matrix = system.off_diagonal[part]
        rows, columns = np.repeat(own[part], np.diff(matrix.indptr)), both[matrix.indices]
        inside = (rows >= 0) & (columns >= 0)
        values = matrix.data[inside].astype(np.float64)
        total += scipy.sparse.coo_array(
            (values, (rows[inside], columns[inside])), shape=shape
        ).tocsr()
    return scipy.sparse.csr_array(total)


def _space(coarse: scipy.sparse.csr_array, blocks: int, *parts: Array) -> SharedSpace:
    """From the own slots of the blocks, then the inverse diagonals of the hierarchies."""
    return shared_space(np.concatenate(parts[blocks:]), coarse, parts[:blocks])
