"""Bytes of memory of the stages that hold the graph: neighbours, edges, Z- and S-step.

Each function walks through one task and adds bytes in the order in which the task allocates them,
releasing them where the task does; the peak is what the plan reckons with.
"""

from __future__ import annotations

from srch_dist.config.derived import vector_dtype
from srch_dist.kernels.clusters import CENTRES_PER_CLUSTER, PROJECTED, routing_clusters, sample_size
from srch_dist.kernels.graph.adjacency import CONNECTED_EDGES
from srch_dist.kernels.graph.block import TILE_ROWS
from srch_dist.kernels.graph.neighbours import (
    QUERY_TILE,
    REFINE_VALUES,
    ROW_TILE,
    SPARE_CLUSTER,
    SPARE_WHOLE,
)
from srch_dist.kernels.graph.rebase import DISTANCE_EDGES, TERM_EDGES
from srch_dist.kernels.multigrid.aggregation import coarse_unknowns
from srch_dist.kernels.multigrid.coarsening import TILE_EDGES
from srch_dist.kernels.multigrid.subdomains import JOINT_ROWS, SUBDOMAIN_ROWS
from srch_dist.plan.memory_model import (
    CENTRE_TILES_BYTES,
    MIB,
    MemoryModel,
    cache_bytes,
    chosen_bytes,
)
from srch_dist.plan.problem import ProblemSize

# What compiling NN-descent adds to a worker for as long as it lives.
COMPILED_BYTES = 430 * MIB
# A neighbour in an index: its number, distance and flag, and candidates of both kinds; once the
# index is gone, its number and its part of the results.
_NEIGHBOUR_BYTES, _REFINED_BYTES = 48, 26
# Bytes a row of a tile of the exact search: distances to the queries of a tile in float32, their
# partition, and what is compared.
_SEARCH_TILE_BYTES = QUERY_TILE * 4 * 6
# An edge of a tile of the system: its weight, length, S, owner and value, in several forms.
_SYSTEM_TILE_BYTES = 64
# A row while rows are aggregated: its pieces of a hierarchy, and what becomes of them, over all
# levels. An edge of a zone meanwhile, as the block has it, as the zone does, and as it is matched.
_PIECE_BYTES, _CASCADE_BYTES, _ZONE_EDGE_BYTES = 54, 44, 84
# A row where there are several zones. Its aggregate and what is known of it, and its share of the
# edges between aggregates; the numbers of all. In the one task that takes what is left of all: up
# to seven edges and .6 nodes a row (70 bytes), what matching takes and the levels above; and there
# an edge of those that are looked at together. Measured on graphs of 26 to 28 ends of edges a row
# in zones of 262,144 rows, whose ends cut a third of the edges.
_LEFT_BYTES, _NUMBERED_BYTES, _NUMBER_BYTES, _REST_BYTES, _TILE_BYTES = 40, 60, 9, 220, 80
# The same where nothing of it is matched: half a node a row, and one level, whole and split.
_APART_BYTES = 70
# Slots of the aggregates that blocks share, a row where there are several zones, and a row of a
# zone that is cut (measured on the same graph). Vectors of the slots' values in the one task that
# adds them up, before and after; those of a block.
_SHARED_ROWS, _CUT_ROWS, _SHARED_VECTORS, _OWN_VECTORS = 0.1, 0.3, 7, 3
# Vectors of a solve in one block: six, and what the preconditioner takes of all levels. In several,
# an update holds six vectors and makes five; three more are the halo and its rows joined.
_WHOLE_VECTORS, _BLOCK_VECTORS = 7, 14


def neighbour_bytes(sizes: ProblemSize) -> int:
    """Memory of a task of the neighbour search, the largest over the modalities."""
    k, p, peak = sizes.config.graph.k, sizes.partition, chosen_bytes(sizes)
    for g, method in sizes.methods.items():
        task = MemoryModel()
        task.allocate(8 * sizes.rows)  # the order of the rows
        if method == "pynndescent":
            task.allocate(_index_bytes(sizes, g, sizes.rows, SPARE_WHOLE))
        elif method == "partitioned":
            task.allocate(_partitioned_bytes(sizes, g))
        else:
            task.allocate(
                2 * p * sizes.dims[g] * sizes.itemsize
            )  # Tiles of distances in several forms, and of rows in float32.
            task.allocate(min(p, ROW_TILE) * (_SEARCH_TILE_BYTES + 2 * sizes.dims[g] * 4))
            task.allocate(2 * p * k * 16)  # neighbours so far, and merged
        peak = max(peak, task.peak)
    return peak


def whole_index_row(k: int) -> int:
    """Bytes that an index of all rows takes for each of them, beside its features."""
    return _NEIGHBOUR_BYTES * (k + 1 + SPARE_WHOLE)


def _index_bytes(sizes: ProblemSize, modality: str, rows: int, spare: int) -> int:
    """Rows and NN-descent among them, with ``spare`` neighbours a row more than are wanted.

    The rows are reduced to half of their dimensions at most, or taken in float32; then the index of
    that is made; then the rows are read once more for the distances.
    """
    near, dims = sizes.config.graph.k + 1 + spare, sizes.dims[modality]
    features = sizes.itemsize * dims
    reduced = features + (4 if sizes.itemsize > 4 else 2) * dims
    index = 4 * dims + _NEIGHBOUR_BYTES * near
    return COMPILED_BYTES + rows * max(reduced, index, features + _REFINED_BYTES * near)


def _partitioned_bytes(sizes: ProblemSize, modality: str) -> int:
    """The fullest task of a partitioned search, beyond the order of the rows."""
    graph, p, dims = sizes.config.graph, sizes.partition, sizes.dims[modality]
    most, block = graph.overlap_max, p * dims * sizes.itemsize
    width = min(dims, PROJECTED)
    points = min(sizes.rows, sample_size(routing_clusters(sizes.rows, graph.cluster_rows)))
    # The sampled points in parts and as one, or counted; a partition's rows in both widths.
    sample = points * (3 * width * 4 + 100) + 2 * p * (dims + width) * 8
    routed = p * most * (CENTRES_PER_CLUSTER + 1) * 8
    route = block + p * (dims + width) * 8 + routed + CENTRE_TILES_BYTES
    spill = block * (1 + most) + p * most * 6 * 8
    # A cluster's rows, one file's while they are gathered, and what is found.
    rows = min(sizes.rows, graph.cluster_rows * most)
    search = _index_bytes(sizes, modality, rows, SPARE_CLUSTER) + block
    merge = p * most * graph.k * 16 * 4
    refine = 2 * block + p * graph.k**2 * 8 * 8 if graph.refine else 0
    return max(sample, route, spill, search, merge, refine)


def graph_bytes(sizes: ProblemSize, rows: int) -> int:
    """Memory of a task that writes the edges of ``rows`` rows."""
    k, count = sizes.config.graph.k, len(sizes.dims)
    # Rows that many others are near to lie anywhere: edges into the rows vary with them.
    directed, edges = rows * k * 8, rows * sizes.most_edges_a_row
    task = MemoryModel()
    task.allocate(2 * 8 * sizes.rows)  # the order of all rows, and its inverse
    task.allocate(count * 2 * directed)  # sorted keys of each modality's edges
    task.allocate(2 * directed)  # keys out of the rows, and about as many into them
    task.transient(3 * 2 * directed)  # both, sorted, and what is distinct of them
    task.free(2 * directed)
    # The modalities' keys in one order, with what sorting takes, or what is distinct of them.
    task.transient(3 * 8 * edges)
    task.free(count * 2 * directed)
    task.allocate(edges * (8 + count) + 8 * rows)  # neighbours, members, ends of rows
    task.transient(8 * edges)  # running counts of a modality's members
    # Components: both ends of edges and of earlier connections, their order, sorted and
    # renumbered; a sparse matrix twice.
    connected = min(edges, CONNECTED_EDGES) + min(edges, sizes.rows)
    task.transient(connected * (2 * 8 * 4 + 2 * 9))
    return task.peak


def solve_bytes(sizes: ProblemSize) -> int:
    """Memory of the Z-step on the resident rows, for the columns that are solved at a time."""
    itemsize, rows = vector_dtype(sizes.config).itemsize, sizes.resident
    edges = rows * sizes.edges_a_row
    zone = min(sizes.rows, SUBDOMAIN_ROWS) * sizes.edges_a_row
    task = MemoryModel()
    task.allocate(_block_bytes(sizes))
    # Lengths, and the matrix with columns of its own, since it may have fewer edges.
    task.allocate(int(0 if sizes.spilled else edges * (4 + 4 + itemsize)))
    task.allocate(rows * itemsize)  # its diagonal
    task.transient(int(min(rows, TILE_ROWS) * sizes.edges_a_row * _SYSTEM_TILE_BYTES))
    shared = 0
    if coarse_unknowns(sizes.rows, sizes.config.solver.coarse):
        share = _zone_share(sizes)
        task.allocate(_PIECE_BYTES * share)
        task.transient(int(zone * _ZONE_EDGE_BYTES))
        if sizes.rows > SUBDOMAIN_ROWS:
            left = (_LEFT_BYTES + _NUMBERED_BYTES) * share + _NUMBER_BYTES * sizes.rows
            task.transient(int(left + zone * _ZONE_EDGE_BYTES))
            together = sizes.rows <= JOINT_ROWS
            rest = (_REST_BYTES if together else _APART_BYTES) * sizes.rows
            task.transient(rest + TILE_EDGES * _TILE_BYTES)
        task.allocate(_PIECE_BYTES * (rows - share))
        task.allocate(_CASCADE_BYTES * rows)
        task.free(_PIECE_BYTES * rows)
        shared = shared_bytes(sizes)
    task.allocate(shared)
    vectors = _WHOLE_VECTORS if sizes.blocks == 1 else _BLOCK_VECTORS
    task.allocate(vectors * rows * sizes.columns * itemsize)
    return task.peak


def _zone_share(sizes: ProblemSize) -> int:
    """Rows whose zones a worker aggregates: of its blocks, or its share of the one on disk."""
    if sizes.blocks > 1 or not sizes.spilled:
        return sizes.resident
    zones = -(-sizes.rows // SUBDOMAIN_ROWS)
    return min(sizes.rows, -(-zones // sizes.workers) * SUBDOMAIN_ROWS)


def system_file_bytes(sizes: ProblemSize) -> int:
    """The file that a product of the Z-step reads where the graph is on disk."""
    return int(sizes.resident * sizes.edges_a_row * (4 + vector_dtype(sizes.config).itemsize))


def shared_bytes(sizes: ProblemSize) -> int:
    """What the blocks' shared aggregates take in the Z-step where there are several blocks."""
    if sizes.blocks == 1:
        return 0
    cuts = min(sizes.rows, SUBDOMAIN_ROWS * (sizes.blocks - 1))
    joined = sizes.rows if SUBDOMAIN_ROWS < sizes.rows <= JOINT_ROWS else 0
    slots = _CUT_ROWS * cuts + _SHARED_ROWS * joined
    own = min(slots, 2 * sizes.resident)
    values = _SHARED_VECTORS * slots + _OWN_VECTORS * own
    return int(sizes.columns * values * vector_dtype(sizes.config).itemsize)


def length_bytes(sizes: ProblemSize) -> int:
    """Memory of the S-step: edge lengths of a block, and the terms of Eq. 9."""
    edges = int(sizes.resident * sizes.edges_a_row)
    columns = sizes.length_columns or sizes.columns
    grouped = columns < sizes.config.loop_bits
    task = MemoryModel()
    task.allocate(kept_bytes(sizes))
    if grouped and not sizes.spilled:
        # Of the columns so far, and with the next; in the end those of all workers are added.
        task.allocate(8 * max(2, sizes.length_sums[0]) * edges)
    z = sizes.resident * columns * 4
    if sizes.columns < sizes.config.loop_bits or sizes.spilled:
        task.allocate(z)  # read for this step
    if sizes.blocks > 1:
        task.allocate(3 * z)  # that of the halo, and with it
    values = min(REFINE_VALUES, edges * columns)
    ends = min(DISTANCE_EDGES, edges) * 4 * 8  # both ends, lengths, and those so far
    task.transient(ends + values * (4 + 4 + 8))  # Z at both ends, and the difference in float64
    task.transient(min(edges, TERM_EDGES) * 8 * 8)  # weights, lengths and their terms
    return task.peak


def kept_bytes(sizes: ProblemSize) -> int:
    """What a worker keeps from one step to the next: graph, edge lengths, Z, and cached X.

    With several groups of columns, or the graph on disk, Z is read where it is used.
    """
    whole = sizes.columns >= sizes.config.loop_bits and not sizes.spilled
    z = sizes.resident * sizes.columns * 4 if whole else 0
    lengths = 0 if sizes.spilled else int(sizes.resident * sizes.edges_a_row) * 4
    return _block_bytes(sizes) + lengths + z + cache_bytes(sizes)


def _block_bytes(sizes: ProblemSize) -> int:
    """A `GraphBlock`: columns, weights, multiplicity, which end counts; ends of rows, halo.

    The rows of the halo, and those that other blocks ask for, are taken to be as many as its own.
    """
    edges = 0 if sizes.spilled else int(sizes.resident * sizes.edges_a_row)
    own = -(-sizes.blocks // sizes.workers)
    rows = sizes.resident // own
    outside = 2 * 8 * own * min(rows, sizes.rows - rows)
    return edges * (4 + 8 + 1 + 1) + sizes.resident * 4 + outside
