"""Aggregates of all rows: inside zones first, then what is left of these together.

Zones are fixed runs of row numbers that no plan changes. Where a block ends inside a zone, the
edges of the zone's rows go to one task, and its pieces come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from dask.delayed import Delayed

from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.kernels.graph.block import GraphBlock, index_type, local_columns
from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.aggregation import Nodes, build_hierarchy, row_nodes
from srch_dist.kernels.multigrid.preconditioner import SplitHierarchy, split_hierarchy
from srch_dist.kernels.multigrid.subdomains import (
    JOINT_ROWS,
    AggregateNumbering,
    SubdomainAggregates,
    aggregate_subdomain,
    coarsen_subdomain,
    join_subdomains,
    number_aggregates,
    subdomain_spans,
    uncoupled_aggregates,
)
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, IntArray
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks


@dataclass(frozen=True)
class RowRange:
    """The rows ``low`` … ``high`` - 1 of a block in a zone, the zone's piece number ``piece``."""

    block: int
    zone: int
    piece: int
    low: int
    high: int


@dataclass(frozen=True)
class Hierarchies:
    """Handles of a `SplitHierarchy` a zone and of that above, with the first slot of each.

    There are none of ``zones`` where all rows are one.
    ``starts`` ends with the number of all slots; the last ``unknowns`` are coarse unknowns.
    """

    zones: Sequence[Delayed]
    above: Delayed
    starts: Sequence[int]
    unknowns: int

    @property
    def first_unknown(self) -> int:
        """The slot of the first coarse unknown."""
        return self.starts[-1] - self.unknowns


@dataclass(frozen=True)
class _ZonePart(Sized):
    """The rows of one block in a zone.

    Attributes
    ----------
    diagonal : (rows,). counts : (rows,) edges of each row.
    columns, values : (edges,) row numbers and λCS².
    outer : row numbers (m,) outside the zone among the columns, ascending. ends : their diagonal.
    """

    diagonal: Array
    counts: IntArray
    columns: IntArray
    values: Array
    outer: IntArray
    ends: Array


def zone_runs(plan: Plan) -> list[RowRange]:
    """Where blocks and zones meet, in the order of the rows."""
    runs: list[RowRange] = []
    for z, zone in enumerate(subdomain_spans(plan.rows)):
        pieces = 0
        for b in plan.blocks:
            low, high = _overlap(plan.block_span(b), zone)
            if low < high:
                runs.append(RowRange(b, z, pieces, low, high))
                pieces += 1
    return runs


def build_aggregates(
    graph: BlockGraph, systems: Sequence[Delayed], runs: Sequence[RowRange], beta: float, quota: int
) -> Hierarchies:
    """Aggregate the rows of the systems βI + λH; ``quota`` is the most coarse unknowns."""
    spans = subdomain_spans(graph.plan.rows)
    diagonals = [tasks.task(_diagonal, system) for system in systems]
    outer = [tasks.task(_outer_rows, block) for block in graph.blocks]
    halos = graph.exchange(diagonals)

    def parts(number: int) -> list[Delayed]:
        # Taken out anew for either use: they are the edges of the whole graph.
        return [
            tasks.task(
                _zone_part,
                graph.plan.block_span(r.block)[0],
                outer[r.block],
                systems[r.block],
                halos[r.block],
                r,
                spans[number],
            )
            for r in runs
            if r.zone == number
        ]

    if len(spans) == 1:
        above = tasks.task(_aggregate_all, runs, quota, beta, *parts(0))
        return _known([], above)
    splits, left = [], []
    for number, span in enumerate(spans):
        ends = tuple((r.low - span[0], r.high - span[0]) for r in runs if r.zone == number)
        with graph.place(number):
            split, zone = tasks.task_pair(_reduce, span, ends, beta, *parts(number))
        splits.append(split)
        left.append(zone)
    numbering = tasks.task(_number, *[tasks.task(_labels, zone) for zone in left])
    if graph.plan.rows > JOINT_ROWS:
        nodes = [tasks.task(uncoupled_aggregates, zone, numbering) for zone in left]
    else:
        nodes = []
        for k, zone in enumerate(left):
            with graph.place(k):
                found = tasks.task(_contract, spans[k], k, beta, zone, numbering, *parts(k))
            nodes.append(found)
    members = [tasks.task(_members, split) for split in splits]
    # Joined in a task of its own: what is joined is in memory once when the rest is aggregated.
    joined, starts = tasks.task(_joined, *nodes), tasks.task(_starts, numbering)
    above = tasks.task(_aggregate_rest, runs, quota, joined, starts, *members)
    return _known(splits, above)


def _known(splits: Sequence[Delayed], above: Delayed) -> Hierarchies:
    """Keep hierarchies of zones and that above on the workers, and count their slots."""
    *zones, above = tasks.persist([*splits, above])
    *widths, unknowns = tasks.run_all(
        [*(tasks.task(_width, split) for split in (*zones, above)), tasks.task(_top, above)]
    )
    return Hierarchies(zones, above, np.cumsum([0, *widths]).tolist(), unknowns)


def _overlap(span: tuple[int, int], zone: tuple[int, int]) -> tuple[int, int]:
    return max(span[0], zone[0]), min(span[1], zone[1])


def _diagonal(system: SystemBlock) -> Array:
    return system.diagonal


def _outer_rows(block: GraphBlock) -> IntArray:
    return block.halo


def _zone_part(
    first: int,
    outer: IntArray,
    system: SystemBlock,
    halo: Array,
    run: RowRange,
    zone: tuple[int, int],
) -> _ZonePart:
    """The rows of ``run`` in a block that begins with row ``first``.

    ``outer`` (h,) are the row numbers of its halo, ``halo`` (h,) is their diagonal.
    """
    own = slice(run.low - first, run.high - first)
    matrix = system.off_diagonal[own]
    numbers = np.concatenate([first + np.arange(len(system.diagonal)), outer])
    kind = index_type(0, max(zone[1], int(numbers.max()) + 1))
    outside = (numbers < zone[0]) | (numbers >= zone[1])
    reached = np.zeros(len(numbers), dtype=np.bool_)
    reached[matrix.indices] = True
    seen = np.flatnonzero(reached & outside)
    seen = seen[np.argsort(numbers[seen])]
    return _ZonePart(
        system.diagonal[own].astype(np.float64),
        np.diff(matrix.indptr),
        numbers.astype(kind)[matrix.indices],
        -matrix.data,
        numbers[seen],
        np.concatenate([system.diagonal, halo])[seen].astype(np.float64),
    )


def _aggregate_all(
    runs: Sequence[RowRange], quota: int, beta: float, *parts: _ZonePart
) -> SplitHierarchy:
    """The hierarchy of all rows where they are one zone, of which each block has one run."""
    nodes, _ = _zone_nodes((0, runs[-1].high), beta, parts)
    hierarchy = build_hierarchy(nodes, quota)
    return split_hierarchy(hierarchy, [np.arange(run.low, run.high) for run in runs])


def _reduce(
    zone: tuple[int, int], ends: tuple[tuple[int, int], ...], beta: float, *parts: _ZonePart
) -> tuple[SplitHierarchy, SubdomainAggregates]:
    """The zone's hierarchy, cut at the ``ends`` of the parts' rows, and what is left."""
    hierarchy, left = aggregate_subdomain(_zone_nodes(zone, beta, parts)[0])
    return split_hierarchy(hierarchy, [np.arange(low, high) for low, high in ends]), left


def _contract(
    span: tuple[int, int],
    number: int,
    beta: float,
    zone: SubdomainAggregates,
    numbering: AggregateNumbering,
    *parts: _ZonePart,
) -> Nodes:
    """The aggregates of a zone with the edges between all."""
    return coarsen_subdomain(*_zone_nodes(span, beta, parts), zone, number, numbering)


def _zone_nodes(
    zone: tuple[int, int], beta: float, parts: Sequence[_ZonePart]
) -> tuple[Nodes, IntArray]:
    """The rows of a zone as nodes, and the row numbers elsewhere that they have edges to."""
    rows = zone[1] - zone[0]
    diagonal, counts, columns, values, outer, far = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("diagonal", "counts", "columns", "values", "outer", "ends")
    )
    outer, first = np.unique(outer, return_index=True)
    kind = index_type(len(columns), rows + len(outer))
    indptr = np.cumsum(np.concatenate([[0], counts])).astype(kind)
    columns = local_columns(zone, outer, columns).astype(kind)
    coupling = scipy.sparse.csr_array(
        (values.astype(np.float64), columns, indptr), shape=(rows, rows + len(outer))
    )
    return row_nodes(coupling, diagonal, beta, far[first]), outer


def _labels(zone: SubdomainAggregates) -> tuple[Array, Array]:
    return zone.labels, zone.diagonal


def _number(*zones: tuple[Array, Array]) -> AggregateNumbering:
    return number_aggregates(zones)


def _members(split: SplitHierarchy) -> list[IntArray]:
    return [piece.coarsest for piece in split.local]


def _starts(numbering: AggregateNumbering) -> IntArray:
    return numbering.starts


def _joined(*zones: Nodes) -> Nodes:
    return join_subdomains(zones)


def _aggregate_rest(
    runs: Sequence[RowRange], quota: int, joined: Nodes, starts: IntArray, *members: list[IntArray]
) -> SplitHierarchy:
    """Aggregate what is left of all zones, of which a zone's pieces see the ``members``."""
    seen: dict[int, list[IntArray]] = {}
    for run in runs:
        found = members[run.zone][run.piece] + starts[run.zone]
        seen.setdefault(run.block, []).append(found)
    hierarchy = build_hierarchy(joined, quota)
    return split_hierarchy(hierarchy, [np.concatenate(seen[block]) for block in sorted(seen)])


def _width(split: SplitHierarchy) -> int:
    return len(split.shared)


def _top(split: SplitHierarchy) -> int:
    return split.unknowns
