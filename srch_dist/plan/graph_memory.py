"""Memory model of the stages that hold the graph: edges, Z-step and S-step.

Each function adds up one task's bytes in the order in which the task allocates and frees them. Item
sizes are written out: 8 bytes a float64 or int64 value, 4 a float32 value or a column index, 1 a
flag. An edge is a directed edge, an entry of the joint graph's CSR matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

from srch_dist.config.derived import vector_dtype
from srch_dist.kernels.graph.adjacency import CONNECTED_EDGES
from srch_dist.kernels.graph.block import TILE_ROWS
from srch_dist.kernels.graph.neighbours import REFINE_VALUES
from srch_dist.kernels.graph.rebase import DISTANCE_EDGES, TERM_EDGES
from srch_dist.kernels.multigrid.aggregation import coarse_unknowns
from srch_dist.kernels.multigrid.coarsening import TILE_EDGES
from srch_dist.kernels.multigrid.subdomains import JOINT_ROWS, SUBDOMAIN_ROWS
from srch_dist.plan.memory_model import MemoryModel, cache_bytes
from srch_dist.plan.problem import ProblemSize

# Bytes per edge of a tile while the system is assembled: weight, length, S, owner and value, some
# of them in several types.
_ASSEMBLY_BYTES = 64


@dataclass(frozen=True)
class AggregationBytes:
    """Bytes of building the preconditioner's aggregation hierarchy.

    The figures for several subdomains were measured on graphs of 26 to 28 edges per row, in
    subdomains of 262,144 rows, with a third of the edges leading to other subdomains.
    """

    local_hierarchy: int = 54
    """Per row: its part of the hierarchy, over all levels, until the preconditioner is made."""
    preconditioner: int = 44
    """Per row: the preconditioner made of the hierarchy, over all levels."""
    subdomain_edge: int = 84
    """Per edge of the subdomain that a task aggregates: in the block, in the subdomain, in the
    matching."""
    aggregate: int = 40
    """Several subdomains. Per row: its part of `SubdomainAggregates`."""
    aggregate_edges: int = 60
    """Several subdomains. Per row: its share of the edges between aggregates."""
    numbering: int = 9
    """Several subdomains. Per row of the run: `AggregateNumbering`."""
    joint_row: int = 220
    """Several subdomains. Per row of the run, in the one task that aggregates the aggregates of all
    subdomains: at most 7 edges and 0.6 nodes (70 bytes), their matching, and the levels above."""
    joint_tile_edge: int = 80
    """Several subdomains. Per edge of a tile of that task."""
    separate_row: int = 70
    """Instead of ``joint_row``, with more than `JOINT_ROWS` rows: half a node per row, and one
    level, whole and split."""


@dataclass(frozen=True)
class SharedSlots:
    """Slots of aggregates that several blocks share, as measured for `AggregationBytes`."""

    per_joint_row: float = 0.1
    """Slots per row, if the aggregates of several subdomains are aggregated jointly."""
    per_cut_row: float = 0.3
    """Slots per row of a subdomain that lies in several blocks."""
    vectors: int = 7
    """Vectors of all slots in the task that adds up the blocks' parts."""
    block_vectors: int = 3
    """Vectors of one block's slots."""


@dataclass(frozen=True)
class SolveVectors:
    """Vectors of (rows, columns) that conjugate gradients hold in a worker."""

    one_block: int = 7
    """Six of the solver, and one for all levels of the preconditioner."""
    several_blocks: int = 14
    """Six before and five after an update; three for the halo and its rows joined."""


_AGGREGATION, _SLOTS, _VECTORS = AggregationBytes(), SharedSlots(), SolveVectors()


def edge_bytes(sizes: ProblemSize, rows: int) -> int:
    """Memory of a task that writes the edges of ``rows`` rows.

    Edges into the rows vary: rows that are near to many others may lie anywhere. So the bound of
    the degree counts, also once edges are counted.
    """
    k, count = sizes.config.graph.k, len(sizes.dims)
    directed, edges = rows * k * 8, rows * sizes.degree_bound
    memory = MemoryModel()
    memory.allocate(2 * 8 * sizes.rows)  # row order and its inverse
    memory.allocate(count * 2 * directed)  # sorted keys of each modality's edges
    memory.allocate(2 * directed)  # keys of edges out of the rows, and of about as many into them
    memory.transient(3 * 2 * directed)  # both directions: joined, sorted, distinct
    memory.free(2 * directed)
    memory.transient(3 * 8 * edges)  # keys of all modalities: joined, sorted, distinct
    memory.free(count * 2 * directed)
    memory.allocate(edges * (8 + count) + 8 * rows)  # indices, modality flags, indptr
    memory.transient(8 * edges)  # running counts of one modality's flags
    # Connected components. Per edge and earlier connection: both ends four times (in use, order,
    # sorted, renumbered), and two sparse matrices.
    connected = min(edges, CONNECTED_EDGES) + min(edges, sizes.rows)
    memory.transient(connected * (2 * 8 * 4 + 2 * 9))
    return memory.peak


def z_step_bytes(sizes: ProblemSize) -> int:
    """Memory of the Z-step in a worker: graph, system, preconditioner and vectors of one solve."""
    itemsize, rows = vector_dtype(sizes.config).itemsize, sizes.resident_rows
    edges = rows * sizes.mean_degree
    memory = MemoryModel()
    memory.allocate(_block_bytes(sizes))
    # Edge lengths, and the matrix. It has its own columns, since it may lack edges of the graph.
    memory.allocate(int(0 if sizes.spilled else edges * (4 + 4 + itemsize)))
    memory.allocate(rows * itemsize)  # diagonal
    memory.transient(int(min(rows, TILE_ROWS) * sizes.mean_degree * _ASSEMBLY_BYTES))
    if coarse_unknowns(sizes.rows, sizes.config.solver.coarse):
        _aggregate(sizes, memory)
        memory.allocate(shared_slot_bytes(sizes))
    vectors = _VECTORS.one_block if sizes.blocks == 1 else _VECTORS.several_blocks
    memory.allocate(vectors * rows * sizes.columns * itemsize)
    return memory.peak


def _aggregate(sizes: ProblemSize, memory: MemoryModel) -> None:
    """Add the aggregation hierarchy and the preconditioner made of it to a task's memory."""
    rows, aggregated = sizes.resident_rows, _aggregated_rows(sizes)
    edges = min(sizes.rows, SUBDOMAIN_ROWS) * sizes.mean_degree * _AGGREGATION.subdomain_edge
    memory.allocate(_AGGREGATION.local_hierarchy * aggregated)
    memory.transient(int(edges))
    if sizes.rows > SUBDOMAIN_ROWS:
        aggregates = (_AGGREGATION.aggregate + _AGGREGATION.aggregate_edges) * aggregated
        numbers = _AGGREGATION.numbering * sizes.rows
        memory.transient(int(aggregates + numbers + edges))
        joint = sizes.rows <= JOINT_ROWS
        per_row = _AGGREGATION.joint_row if joint else _AGGREGATION.separate_row
        memory.transient(per_row * sizes.rows + TILE_EDGES * _AGGREGATION.joint_tile_edge)
    memory.allocate(_AGGREGATION.local_hierarchy * (rows - aggregated))
    memory.allocate(_AGGREGATION.preconditioner * rows)
    memory.free(_AGGREGATION.local_hierarchy * rows)


def _aggregated_rows(sizes: ProblemSize) -> int:
    """Rows of the subdomains that one worker aggregates.

    They are the rows of its blocks. Of one block on disk, each worker aggregates a share.
    """
    if sizes.blocks > 1 or not sizes.spilled:
        return sizes.resident_rows
    subdomains = -(-sizes.rows // SUBDOMAIN_ROWS)
    return min(sizes.rows, -(-subdomains // sizes.workers) * SUBDOMAIN_ROWS)


def system_file_bytes(sizes: ProblemSize) -> int:
    """Bytes of the scratch file that each product of the Z-step reads: columns and values."""
    return int(sizes.resident_rows * sizes.mean_degree * (4 + vector_dtype(sizes.config).itemsize))


def shared_slot_bytes(sizes: ProblemSize) -> int:
    """Memory of the aggregates that blocks share in the Z-step; 0 with one block."""
    if sizes.blocks == 1:
        return 0
    cut_rows = min(sizes.rows, SUBDOMAIN_ROWS * (sizes.blocks - 1))
    joint_rows = sizes.rows if SUBDOMAIN_ROWS < sizes.rows <= JOINT_ROWS else 0
    slots = _SLOTS.per_cut_row * cut_rows + _SLOTS.per_joint_row * joint_rows
    block_slots = min(slots, 2 * sizes.resident_rows)
    values = _SLOTS.vectors * slots + _SLOTS.block_vectors * block_slots
    return int(sizes.columns * values * vector_dtype(sizes.config).itemsize)


def s_step_bytes(sizes: ProblemSize) -> int:
    """Memory of the S-step in a worker: edge lengths, and the terms of Eq. 9."""
    edges = int(sizes.resident_rows * sizes.mean_degree)
    columns = sizes.length_columns or sizes.columns
    memory = MemoryModel()
    memory.allocate(persisted_bytes(sizes))
    if columns < sizes.config.loop_bits and not sizes.spilled:
        # Partial sums before and after a pass; at the end the sums of all workers are added.
        memory.allocate(8 * max(2, sizes.length_sums[0]) * edges)
    z = sizes.resident_rows * columns * 4
    if sizes.columns < sizes.config.loop_bits or sizes.spilled:
        memory.allocate(z)  # read for this step
    if sizes.blocks > 1:
        memory.allocate(3 * z)  # the halo's Z, and both joined
    values = min(REFINE_VALUES, edges * columns)
    ends = min(DISTANCE_EDGES, edges) * 4 * 8  # both ends, lengths, partial sums
    memory.transient(ends + values * (4 + 4 + 8))  # Z at both ends, and the difference in float64
    memory.transient(min(edges, TERM_EDGES) * 8 * 8)  # weights, lengths and their terms
    return memory.peak


def persisted_bytes(sizes: ProblemSize) -> int:
    """Memory that a worker keeps between the steps: graph, edge lengths, Z, and cached X.

    With several column groups, or with the graph on disk, Z is read where a step needs it.
    """
    keeps_z = sizes.columns >= sizes.config.loop_bits and not sizes.spilled
    z = sizes.resident_rows * sizes.columns * 4 if keeps_z else 0
    lengths = 0 if sizes.spilled else int(sizes.resident_rows * sizes.mean_degree) * 4
    return _block_bytes(sizes) + lengths + z + cache_bytes(sizes)


def _block_bytes(sizes: ProblemSize) -> int:
    """Memory of a worker's `GraphBlock`s.

    Per edge: column, weight, multiplicity, and a flag that one of both directions has. Per row:
    indptr. The halo's row numbers, and the rows that other blocks request, are each taken to be as
    many as the block's own rows.
    """
    edges = 0 if sizes.spilled else int(sizes.resident_rows * sizes.mean_degree)
    blocks = -(-sizes.blocks // sizes.workers)
    rows = sizes.resident_rows // blocks
    halos = 2 * 8 * blocks * min(rows, sizes.rows - rows)
    return edges * (4 + 8 + 1 + 1) + sizes.resident_rows * 4 + halos
