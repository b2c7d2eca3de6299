"""Memory model of the stages that hold the graph: edges, Z-step and S-step.

Each function adds up the bytes of one task, in the order in which the task allocates and frees
them. Bytes per value are literal numbers: 8 for float64 and int64, 4 for float32 and column
indices, 1 for a flag. An edge is a directed edge: one entry of the joint graph's CSR matrix.
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
# of them in several dtypes.
_ASSEMBLY_BYTES = 64


@dataclass(frozen=True)
class AggregationBytes:
    """Bytes per row or edge while the preconditioner's aggregation hierarchy is built.

    A subdomain is a range of 262,144 rows. Values marked "several subdomains" apply to training
    runs with more rows. These values were measured on graphs with 26 to 28 edges per row. A third
    of the edges lead to other subdomains.
    """

    local_hierarchy: int = 54
    """Per row: all levels of the hierarchy, which is freed once the preconditioner is built."""
    preconditioner: int = 44
    """Per row: all levels of the preconditioner that is built from the hierarchy."""
    subdomain_edge: int = 84
    """Per edge of the subdomain that a task aggregates: copies in block, subdomain and matching."""
    aggregate: int = 40
    """Several subdomains. Per row: bytes of `SubdomainAggregates`."""
    aggregate_edges: int = 60
    """Several subdomains. Per row: edges between aggregates."""
    numbering: int = 9
    """Several subdomains. Per row of the run: bytes of `AggregateNumbering`."""
    joint_row: int = 220
    """Several subdomains. Per row of the run, in the task that aggregates all of them jointly: at
    most 7 edges and 0.6 nodes (70 bytes), their matching, and the coarser levels."""
    joint_tile_edge: int = 80
    """Several subdomains. Per edge of a tile, in the task that aggregates all of them jointly."""
    separate_row: int = 70
    """Replaces ``joint_row`` in training runs with more than `JOINT_ROWS` rows: half a node per
    row, and one level, both before and after the split by block."""


@dataclass(frozen=True)
class SharedSlots:
    """Numbers from which the memory of slots is computed.

    A slot is an entry of the vector that the blocks share in the Z-step.
    """

    per_joint_row: float = 0.1
    """Slots per row, if the aggregates of several subdomains are aggregated jointly."""
    per_cut_row: float = 0.3
    """Slots for each row of the subdomains that are split between several blocks."""
    vectors: int = 7
    """Vectors with one entry per slot, in the task that sums over the blocks."""
    block_vectors: int = 3
    """Vectors with one entry per slot of a block, in a task of that block."""


@dataclass(frozen=True)
class SolveVectors:
    """Number of conjugate-gradient vectors, each (rows, columns), in a worker's memory."""

    one_block: int = 7
    """Six vectors of the solver, and one for all levels of the preconditioner."""
    several_blocks: int = 14
    """Six vectors before an update, five after it, one for the halo, and two for the block's rows
    joined with the halo."""


_AGGREGATION, _SLOTS, _VECTORS = AggregationBytes(), SharedSlots(), SolveVectors()


def edge_bytes(sizes: ProblemSize, rows: int) -> int:
    """Compute memory of a task that writes the edges of ``rows`` rows.

    The formula uses the upper bound of the degree even after the edges are counted, because rows
    with many incoming edges may all be in one task.
    """
    k, count = sizes.config.graph.k, len(sizes.dims)
    directed, edges = rows * k * 8, rows * sizes.degree_bound
    memory = MemoryModel()
    memory.allocate(2 * 8 * sizes.rows)  # row order and its inverse
    memory.allocate(count * 2 * directed)  # sorted keys of each modality's edges
    memory.allocate(2 * directed)  # keys of edges out of the rows, and into the rows
    memory.transient(3 * 2 * directed)  # both directions: joined, sorted, distinct
    memory.free(2 * directed)
    memory.transient(3 * 8 * edges)  # keys of all modalities: joined, sorted, distinct
    memory.free(count * 2 * directed)
    memory.allocate(edges * (8 + count) + 8 * rows)  # indices, modality flags, indptr
    memory.transient(8 * edges)  # running counts of one modality's flags
    # Connected components. Per edge or star: both ends four times (in use, order, sorted,
    # renumbered), and two sparse matrices.
    connected = min(edges, CONNECTED_EDGES) + min(edges, sizes.rows)
    memory.transient(connected * (2 * 8 * 4 + 2 * 9))
    return memory.peak


def z_step_bytes(sizes: ProblemSize) -> int:
    """Compute memory of the Z-step in a worker: graph, system, preconditioner, vectors."""
    itemsize, rows = vector_dtype(sizes.config).itemsize, sizes.resident_rows
    edges = rows * sizes.mean_degree
    memory = MemoryModel()
    memory.allocate(_block_bytes(sizes))
    # Edge lengths; columns and values of the matrix, which may have fewer edges than the graph.
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
    """Add the aggregation hierarchy, and the preconditioner built from it, to ``memory``."""
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
    """Return the number of rows in the subdomains that one worker aggregates.

    A worker aggregates the rows of its blocks. If the graph is one block on disk, each worker
    aggregates some of its subdomains.
    """
    if sizes.blocks > 1 or not sizes.spilled:
        return sizes.resident_rows
    subdomains = -(-sizes.rows // SUBDOMAIN_ROWS)
    return min(sizes.rows, -(-subdomains // sizes.workers) * SUBDOMAIN_ROWS)


def system_file_bytes(sizes: ProblemSize) -> int:
    """Compute bytes of the scratch files that each matrix product of the Z-step reads."""
    return int(sizes.resident_rows * sizes.mean_degree * (4 + vector_dtype(sizes.config).itemsize))


def shared_slot_bytes(sizes: ProblemSize) -> int:
    """Compute memory of the slots that blocks share in the Z-step; 0 with one block."""
    if sizes.blocks == 1:
        return 0
    cut_rows = min(sizes.rows, SUBDOMAIN_ROWS * (sizes.blocks - 1))
    joint_rows = sizes.rows if SUBDOMAIN_ROWS < sizes.rows <= JOINT_ROWS else 0
    slots = _SLOTS.per_cut_row * cut_rows + _SLOTS.per_joint_row * joint_rows
    block_slots = min(slots, 2 * sizes.resident_rows)
    values = _SLOTS.vectors * slots + _SLOTS.block_vectors * block_slots
    return int(sizes.columns * values * vector_dtype(sizes.config).itemsize)


def s_step_bytes(sizes: ProblemSize) -> int:
    """Compute memory of the S-step in a worker: edge lengths, and the terms of Eq. 9."""
    edges = int(sizes.resident_rows * sizes.mean_degree)
    columns = sizes.length_columns or sizes.columns
    memory = MemoryModel()
    memory.allocate(persisted_bytes(sizes))
    if columns < sizes.config.embedding_columns and not sizes.spilled:
        # Partial sums before and after a pass, or the sums of all workers in the final addition.
        memory.allocate(8 * max(2, sizes.length_sums[0]) * edges)
    z = sizes.resident_rows * columns * 4
    if sizes.columns < sizes.config.embedding_columns or sizes.spilled:
        memory.allocate(z)  # Z, read for this step
    if sizes.blocks > 1:
        memory.allocate(3 * z)  # Z of the halo, and both joined
    values = min(REFINE_VALUES, edges * columns)
    ends = min(DISTANCE_EDGES, edges) * 4 * 8  # both ends, lengths, partial sums
    memory.transient(ends + values * (4 + 4 + 8))  # Z at both ends, and the difference in float64
    memory.transient(min(edges, TERM_EDGES) * 8 * 8)  # weights, lengths and their terms
    return memory.peak


def persisted_bytes(sizes: ProblemSize) -> int:
    """Compute memory that a worker keeps between the steps: graph, edge lengths, Z, cached X.

    With several column groups, or with the graph on disk, each step reads Z from disk instead.
    """
    keeps_z = sizes.columns >= sizes.config.embedding_columns and not sizes.spilled
    z = sizes.resident_rows * sizes.columns * 4 if keeps_z else 0
    lengths = 0 if sizes.spilled else int(sizes.resident_rows * sizes.mean_degree) * 4
    return _block_bytes(sizes) + lengths + z + cache_bytes(sizes)


def _block_bytes(sizes: ProblemSize) -> int:
    """Compute memory of a worker's `GraphBlock`s.

    Per edge: column, weight, multiplicity and ``counted_once``. Per row: indptr. The halo is
    assumed to have the same number of rows as the block. So are the rows that other blocks request.
    """
    edges = 0 if sizes.spilled else int(sizes.resident_rows * sizes.mean_degree)
    blocks = -(-sizes.blocks // sizes.workers)
    rows = sizes.resident_rows // blocks
    halos = 2 * 8 * blocks * min(rows, sizes.rows - rows)
    return edges * (4 + 8 + 1 + 1) + sizes.resident_rows * 4 + halos
