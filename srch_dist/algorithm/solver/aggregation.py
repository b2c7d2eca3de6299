"""Build the aggregation hierarchies on the workers: one per subdomain, and one above them all.

Subdomains are fixed ranges of row numbers that do not depend on the plan. If a block ends inside a
subdomain, one task receives the edges of the whole subdomain, and each block receives its part of
the hierarchy. The kernels are in `srch_dist.kernels.multigrid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from dask.delayed import Delayed

from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.kernels.graph.block import index_type, local_columns
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
    """The overlap of a block and a subdomain: rows ``low`` … ``high`` - 1.

    ``block`` and ``subdomain`` are the numbers of the block and of the subdomain. ``part`` numbers
    the overlaps of one subdomain from 0, in row order.
    """

    block: int
    subdomain: int
    part: int
    low: int
    high: int


@dataclass(frozen=True)
class Hierarchies:
    """Aggregation hierarchies on the workers, and the first slot of each.

    A slot is an entry of the vector that the blocks share: an aggregate with rows in several
    blocks, or a coarse unknown.

    Attributes
    ----------
    subdomains : a `SplitHierarchy` per subdomain; empty if all rows are one subdomain.
    above : the `SplitHierarchy` built over the aggregates of all subdomains.
    starts : first slot of each of ``subdomains``, then of ``above``, then the number of all slots.
    unknowns : number of coarse unknowns, which have the last slots.
    """

    subdomains: Sequence[Delayed]
    above: Delayed
    starts: Sequence[int]
    unknowns: int

    @property
    def first_unknown(self) -> int:
        """Slot of the first coarse unknown."""
        return self.starts[-1] - self.unknowns


@dataclass(frozen=True)
class _SubdomainPart(Sized):
    """Rows of the system that are in one block and in one subdomain.

    Attributes
    ----------
    diagonal : (rows,) diagonal of the system.
    counts : (rows,) number of edges of each row.
    columns, values : (edges,) edges row by row: row number of the neighbour, and weight λCS².
    outer : (outer,) row numbers of neighbours outside the subdomain, ascending.
    ends : (outer,) diagonal of the system at these neighbours.
    """

    diagonal: Array
    counts: IntArray
    columns: IntArray
    values: Array
    outer: IntArray
    ends: Array


def subdomain_ranges(plan: Plan) -> list[RowRange]:
    """List the overlaps of blocks and subdomains, in the order of the rows."""
    ranges: list[RowRange] = []
    for number, span in enumerate(subdomain_spans(plan.rows)):
        parts = 0
        for b in plan.blocks:
            low, high = _overlap(plan.block_span(b), span)
            if low < high:
                ranges.append(RowRange(b, number, parts, low, high))
                parts += 1
    return ranges


def build_aggregates(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    ranges: Sequence[RowRange],
    beta: float,
    quota: int,
) -> Hierarchies:
    """Build the aggregation hierarchies over the rows of the system βI + λH.

    Parameters
    ----------
    systems : a `SystemBlock` per block.
    ranges : see `subdomain_ranges`.
    quota : upper limit of the number of coarse unknowns.
    """
    spans = subdomain_spans(graph.plan.rows)
    diagonals = [tasks.field(system, "diagonal") for system in systems]
    outer = [tasks.field(block, "halo") for block in graph.blocks]
    halos = graph.exchange(diagonals)

    def parts(number: int) -> list[Delayed]:
        # Create new tasks for each use: kept results would hold the edges of the whole graph.
        return [
            tasks.task(
                _subdomain_part,
                graph.plan.block_span(r.block)[0],
                outer[r.block],
                systems[r.block],
                halos[r.block],
                r,
                spans[number],
            )
            for r in ranges
            if r.subdomain == number
        ]

    if len(spans) == 1:
        above = tasks.task(_aggregate_all, ranges, quota, beta, *parts(0))
        return _persist_hierarchies([], above)
    splits, remaining = [], []
    for number, span in enumerate(spans):
        ends = tuple((r.low - span[0], r.high - span[0]) for r in ranges if r.subdomain == number)
        with graph.place(number):
            split, aggregates = tasks.task_pair(_reduce, span, ends, beta, *parts(number))
        splits.append(split)
        remaining.append(aggregates)
    numbering = tasks.task(_number, *[tasks.task(_labels, one) for one in remaining])
    if graph.plan.rows > JOINT_ROWS:
        nodes = [tasks.task(uncoupled_aggregates, one, numbering) for one in remaining]
    else:
        nodes = []
        for k, one in enumerate(remaining):
            with graph.place(k):
                found = tasks.task(_contract, spans[k], k, beta, one, numbering, *parts(k))
            nodes.append(found)
    members = [tasks.task(_members, split) for split in splits]
    # Join in a separate task, so that its inputs are freed before the next task aggregates.
    joined, starts = tasks.task(_joined, *nodes), tasks.field(numbering, "starts")
    above = tasks.task(_aggregate_rest, ranges, quota, joined, starts, *members)
    return _persist_hierarchies(splits, above)


def _persist_hierarchies(splits: Sequence[Delayed], above: Delayed) -> Hierarchies:
    """Keep all hierarchies on the workers, and count their slots."""
    *subdomains, above = tasks.persist([*splits, above])
    *widths, unknowns = tasks.run_all(
        [
            *(tasks.task(_width, split) for split in (*subdomains, above)),
            tasks.field(above, "unknowns"),
        ]
    )
    return Hierarchies(subdomains, above, np.cumsum([0, *widths]).tolist(), unknowns)


def _overlap(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return max(first[0], second[0]), min(first[1], second[1])


def _subdomain_part(
    first: int,
    outer: IntArray,
    system: SystemBlock,
    halo: Array,
    rows: RowRange,
    span: tuple[int, int],
) -> _SubdomainPart:
    """Extract a block's part of the subdomain with the row numbers ``span``.

    ``first`` is the first row of the block. ``outer`` (h,) are the row numbers of the block's halo,
    and ``halo`` (h,) is the diagonal of the system at these rows.
    """
    own = slice(rows.low - first, rows.high - first)
    matrix = system.off_diagonal[own]
    numbers = np.concatenate([first + np.arange(len(system.diagonal)), outer])
    kind = index_type(0, max(span[1], int(numbers.max()) + 1))
    outside = (numbers < span[0]) | (numbers >= span[1])
    reached = np.zeros(len(numbers), dtype=np.bool_)
    reached[matrix.indices] = True
    seen = np.flatnonzero(reached & outside)
    seen = seen[np.argsort(numbers[seen])]
    return _SubdomainPart(
        system.diagonal[own].astype(np.float64),
        np.diff(matrix.indptr),
        numbers.astype(kind)[matrix.indices],
        -matrix.data,
        numbers[seen],
        np.concatenate([system.diagonal, halo])[seen].astype(np.float64),
    )


def _aggregate_all(
    ranges: Sequence[RowRange], quota: int, beta: float, *parts: _SubdomainPart
) -> SplitHierarchy:
    """Build the hierarchy of a run that has one subdomain only, and split it by block.

    ``parts`` has one entry for each of ``ranges``. ``quota`` is the upper limit of the number
    of coarse unknowns.
    """
    nodes, _ = _subdomain_nodes((0, ranges[-1].high), beta, parts)
    hierarchy = build_hierarchy(nodes, quota)
    return split_hierarchy(hierarchy, [np.arange(r.low, r.high) for r in ranges])


def _reduce(
    span: tuple[int, int], ends: tuple[tuple[int, int], ...], beta: float, *parts: _SubdomainPart
) -> tuple[SplitHierarchy, SubdomainAggregates]:
    """Aggregate a subdomain; return its hierarchy, split by block, and its aggregates.

    ``ends`` are the row ranges (low, high) of the parts, relative to the subdomain.
    """
    hierarchy, aggregates = aggregate_subdomain(_subdomain_nodes(span, beta, parts)[0])
    return split_hierarchy(hierarchy, [np.arange(low, high) for low, high in ends]), aggregates


def _contract(
    span: tuple[int, int],
    number: int,
    beta: float,
    aggregates: SubdomainAggregates,
    numbering: AggregateNumbering,
    *parts: _SubdomainPart,
) -> Nodes:
    """Turn one subdomain's aggregates into nodes, with edges to the aggregates of all subdomains.

    The arguments after ``beta`` are those of `coarsen_subdomain`; ``span`` is the subdomain's row
    range.
    """
    return coarsen_subdomain(*_subdomain_nodes(span, beta, parts), aggregates, number, numbering)


def _subdomain_nodes(
    span: tuple[int, int], beta: float, parts: Sequence[_SubdomainPart]
) -> tuple[Nodes, IntArray]:
    """Join the parts of a subdomain to a graph whose nodes are the rows of the subdomain.

    Returns the nodes, and the row numbers (outer,) of neighbours outside the subdomain, ascending.
    """
    rows = span[1] - span[0]
    diagonal, counts, columns, values, outer, far = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("diagonal", "counts", "columns", "values", "outer", "ends")
    )
    outer, first = np.unique(outer, return_index=True)
    kind = index_type(len(columns), rows + len(outer))
    indptr = np.cumsum(np.concatenate([[0], counts])).astype(kind)
    columns = local_columns(span, outer, columns).astype(kind)
    coupling = scipy.sparse.csr_array(
        (values.astype(np.float64), columns, indptr), shape=(rows, rows + len(outer))
    )
    return row_nodes(coupling, diagonal, beta, far[first]), outer


def _labels(aggregates: SubdomainAggregates) -> tuple[Array, Array]:
    return aggregates.labels, aggregates.diagonal


def _number(*subdomains: tuple[Array, Array]) -> AggregateNumbering:
    return number_aggregates(subdomains)


def _members(split: SplitHierarchy) -> list[IntArray]:
    return [part.coarsest for part in split.local]


def _joined(*subdomains: Nodes) -> Nodes:
    return join_subdomains(subdomains)


def _aggregate_rest(
    ranges: Sequence[RowRange],
    quota: int,
    joined: Nodes,
    starts: IntArray,
    *members: list[IntArray],
) -> SplitHierarchy:
    """Aggregate the aggregates of all subdomains jointly, and split the hierarchy by block.

    ``members`` has one list per subdomain. The list has one array per part: the aggregates of the
    part's rows, numbered within the subdomain. ``starts`` is the first aggregate of each subdomain.
    """
    seen: dict[int, list[IntArray]] = {}
    for r in ranges:
        found = members[r.subdomain][r.part] + starts[r.subdomain]
        seen.setdefault(r.block, []).append(found)
    hierarchy = build_hierarchy(joined, quota)
    return split_hierarchy(hierarchy, [np.concatenate(seen[block]) for block in sorted(seen)])


def _width(split: SplitHierarchy) -> int:
    return len(split.shared)
