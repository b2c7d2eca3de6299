"""Aggregates over all blocks: zones of rows, their hierarchies, and the coarse matrix.

Rows are aggregated inside zones, fixed runs of row numbers that no plan changes: so the
preconditioner, and with it every rounding of the embedding, is the same for all blocks. Where a
block ends inside a zone, the edges of the zone's rows go to one task, and its pieces come back.
"""

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
from srch_dist.kernels.aggregation import ZONE_ROWS, build_hierarchy, coarse_unknowns
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
    split_hierarchy,
)
from srch_dist.kernels.laplacian import GraphBlock, SystemBlock, row_tiles
from srch_dist.kernels.sizes import Sized
from srch_dist.planning import Plan
from srch_dist.solver.blocks import BlockGraph

Array = NDArray[Any]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Preconditioner:
    """Handles of the `Cascade` of each block and of the `SharedSpace` of all."""

    cascades: Sequence[Delayed]
    space: Delayed


@dataclass(frozen=True)
class _ZonePart(Sized):
    """The rows of one block in a zone: diagonal (rows,), and edges inside the zone (edges,)."""

    diagonal: Array
    owners: IntArray
    columns: IntArray
    values: Array


def build_preconditioner(
    graph: BlockGraph, systems: Sequence[Delayed], beta: float, options: SolverConfig
) -> Preconditioner:
    """Aggregate the rows of the systems βI + λH; plain Jacobi where ``options`` say so."""
    plan = graph.plan
    unknowns = coarse_unknowns(plan.rows, options.coarse)
    if not unknowns:
        plain = [execution.task(_plain, system) for system in systems]
        return Preconditioner(execution.keep(plain), execution.literal(no_space()))
    zones = [(low, min(low + ZONE_ROWS, plan.rows)) for low in range(0, plan.rows, ZONE_ROWS)]
    split = execution.keep(
        [_split_zone(graph, systems, zone, beta, _quota(zone, plan, unknowns)) for zone in zones]
    )
    widths = execution.run_all([execution.task(_width, zone) for zone in split])
    offsets = np.concatenate([[0], np.cumsum(widths)])
    cascades = execution.keep(
        [_block_cascade(plan, b, systems[b], zones, split, offsets.tolist()) for b in plan.blocks]
    )
    labels = [execution.task(row_unknowns, cascade) for cascade in cascades]
    coarse = execution.add_up(
        [
            execution.task(_coarse_part, system, own, halo, int(offsets[-1]))
            for system, own, halo in zip(systems, labels, graph.exchange(labels), strict=True)
        ]
    )
    (space,) = execution.keep([execution.task(_space, coarse, offsets.tolist(), *split)])
    return Preconditioner(cascades, space)


def _quota(zone: tuple[int, int], plan: Plan, unknowns: int) -> int:
    """The zone's share of the coarse unknowns, by rows."""
    return max(1, unknowns * (zone[1] - zone[0]) // plan.rows)


def _split_zone(
    graph: BlockGraph, systems: Sequence[Delayed], zone: tuple[int, int], beta: float, quota: int
) -> Delayed:
    parts, cuts = [], [0]
    for b in graph.plan.blocks:
        low, high = _overlap(graph.plan.block_span(b), zone)
        if low < high:
            parts.append(execution.task(_zone_part, graph.blocks[b], systems[b], low, high, zone))
            cuts.append(high - zone[0])
    return execution.task(_aggregate, tuple(cuts), beta, quota, *parts)


def _block_cascade(
    plan: Plan,
    block: int,
    system: Delayed,
    zones: Sequence[tuple[int, int]],
    split: Sequence[Delayed],
    offsets: Sequence[int],
) -> Delayed:
    pieces, first = [], []
    for number, zone in enumerate(zones):
        low, high = _overlap(plan.block_span(block), zone)
        if low < high:
            before = sum(1 for b in range(block) if np.less(*_overlap(plan.block_span(b), zone)))
            pieces.append(execution.task(_piece, split[number], before))
            first.append(offsets[number])
    return execution.task(_join, system, tuple(first), offsets[-1], *pieces)


def _overlap(span: tuple[int, int], zone: tuple[int, int]) -> tuple[int, int]:
    return max(span[0], zone[0]), min(span[1], zone[1])


def _plain(system: SystemBlock) -> Cascade:
    return jacobi(system.diagonal)


def _zone_part(
    block: GraphBlock, system: SystemBlock, low: int, high: int, zone: tuple[int, int]
) -> _ZonePart:
    """Rows ``low`` … ``high`` - 1 with their edges inside the zone, counted from its start."""
    own = slice(low - block.first_row, high - block.first_row)
    matrix = system.off_diagonal[own]
    numbers = np.concatenate([block.first_row + np.arange(block.rows), block.halo])
    columns = numbers[matrix.indices] - zone[0]
    owners = np.repeat(np.arange(low, high) - zone[0], np.diff(matrix.indptr))
    inside = (columns >= 0) & (columns < zone[1] - zone[0])
    return _ZonePart(
        system.diagonal[own].astype(np.float64),
        owners[inside],
        columns[inside],
        -matrix.data[inside].astype(np.float64),
    )


def _aggregate(cuts: tuple[int, ...], beta: float, quota: int, *parts: _ZonePart) -> SplitHierarchy:
    rows = cuts[-1]
    owners, columns, values = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("owners", "columns", "values")
    )
    indptr = np.searchsorted(owners, np.arange(rows + 1))
    coupling = scipy.sparse.csr_array((values, columns, indptr), shape=(rows, rows))
    diagonal = np.concatenate([part.diagonal for part in parts])
    return split_hierarchy(build_hierarchy(coupling, diagonal, beta, quota), cuts)


def _width(zone: SplitHierarchy) -> int:
    return len(zone.shared)


def _piece(zone: SplitHierarchy, number: int) -> Piece:
    return zone.pieces[number]


def _join(system: SystemBlock, offsets: tuple[int, ...], width: int, *pieces: Piece) -> Cascade:
    return join_pieces(system.diagonal, pieces, offsets, width)


def _coarse_part(
    system: SystemBlock, own: IntArray, halo: IntArray, width: int
) -> scipy.sparse.csr_array:
    """A block's part of P'AP (width, width) over the coarse unknowns of its rows and halo."""
    both = np.concatenate([own, halo])
    total: Any = scipy.sparse.coo_array(
        (system.diagonal[own >= 0].astype(np.float64), (own[own >= 0],) * 2), shape=(width, width)
    ).tocsr()
    for part in row_tiles(len(own)):
        matrix = system.off_diagonal[part]
        rows, columns = np.repeat(own[part], np.diff(matrix.indptr)), both[matrix.indices]
        inside = (rows >= 0) & (columns >= 0)
        values = matrix.data[inside].astype(np.float64)
        total += scipy.sparse.coo_array(
            (values, (rows[inside], columns[inside])), shape=(width, width)
        ).tocsr()
    return scipy.sparse.csr_array(total)


def _space(
    coarse: scipy.sparse.csr_array, offsets: Sequence[int], *zones: SplitHierarchy
) -> SharedSpace:
    tops = [zone.top + start for zone, start in zip(zones, offsets, strict=False)]
    inverse = np.concatenate([zone.shared for zone in zones])
    return shared_space(inverse, np.concatenate(tops), coarse)
