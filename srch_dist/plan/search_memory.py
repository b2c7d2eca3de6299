"""Memory model of the neighbour search: exact, one NN-descent index, or partitioned.

Bytes per value are literal numbers: 8 for float64 and int64, 4 for float32. Each neighbour in the
result needs 16 bytes: 8 for its row number and 8 for its distance.
"""

from __future__ import annotations

from dataclasses import dataclass

from srch_dist.kernels.clusters import routing_centres, sample_size
from srch_dist.kernels.graph.leaves import (
    GROUP_VISITS,
    MEASURED_BYTES,
    NODE_LEAVES,
    NODE_ROWS,
    ROW_NODES,
    VISITING_ROWS,
    kept_candidates,
    leaf_rows,
    refined_rows,
)
from srch_dist.kernels.graph.neighbours import QUERY_TILE, ROW_TILE, SPARE_WHOLE
from srch_dist.kernels.graph.principal import SEARCH_DIMS
from srch_dist.plan.memory_model import CENTRE_TILES_BYTES, MIB, MemoryModel, sampling_bytes
from srch_dist.plan.problem import ProblemSize

# Resident memory that pynndescent and its compiled code add to a worker until it restarts.
COMPILED_BYTES = 430 * MIB
# Float32 arrays of one tile of distances that `merge_exact` allocates: the distances, their
# partition, and the comparison with the threshold.
_TILE_ARRAYS = 6
# Bytes per sampled row that k-means needs in addition to the row's coordinates.
_POINT_BYTES = 100


@dataclass(frozen=True)
class _IndexBytes:
    """Bytes of an NN-descent index per row and neighbour."""

    building: int = 48
    """While the index is built: row number, distance, flag, new and old candidates."""
    refining: int = 26
    """After the index is freed: row number, and the distances computed for it."""


@dataclass(frozen=True)
class _VisitBytes:
    """Bytes per visit of a leaf in the partitioned search."""

    chosen: int = 52
    """While visits are chosen: leaf, place and distance, unsorted and sorted, and the sort."""
    searched: int = 68
    """While leaves are searched: the same, and the target of the candidates."""
    received: float = 1.5
    """Visits of a cluster's leaves by rows of all clusters, over the visits of its own rows."""


_INDEX, _VISITS = _IndexBytes(), _VisitBytes()


def neighbour_bytes(sizes: ProblemSize) -> int:
    """Compute memory of a neighbour-search task: the maximum over the modalities."""
    k, p, peak = sizes.config.graph.k, sizes.partition_rows, sampling_bytes(sizes)
    for g, method in sizes.methods.items():
        dims, memory = sizes.dims[g], MemoryModel()
        memory.allocate(8 * sizes.rows)  # row order
        if method == "pynndescent":
            memory.allocate(_index_bytes(sizes, g))
        elif method == "partitioned":
            memory.allocate(_partitioned_bytes(sizes, g))
        else:
            memory.allocate(2 * p * dims * sizes.itemsize)  # queries and block
            # Per row of a tile: distances to the tile's queries, and rows and queries in float32.
            memory.allocate(min(p, ROW_TILE) * (_TILE_ARRAYS * QUERY_TILE * 4 + 2 * dims * 4))
            memory.allocate(2 * p * k * (8 + 8))  # neighbours so far, and merged
        peak = max(peak, memory.peak)
    return peak


def _index_bytes(sizes: ProblemSize, modality: str) -> int:
    """Compute memory of NN-descent on all rows, with k + 1 + `SPARE_WHOLE` neighbours each.

    The result is the maximum of three phases. First, features are reduced to at most half of their
    dimensions or converted to float32. Then the index is built on the reduced rows. Last, features
    are read again for the distances.
    """
    neighbours, dims = sizes.config.graph.k + 1 + SPARE_WHOLE, sizes.dims[modality]
    features = sizes.itemsize * dims
    reduce = features + (4 if sizes.itemsize > 4 else 2) * dims
    build = 4 * dims + _INDEX.building * neighbours
    refine = features + _INDEX.refining * neighbours
    return COMPILED_BYTES + sizes.rows * max(reduce, build, refine)


def _partitioned_bytes(sizes: ProblemSize, modality: str) -> int:
    """Compute memory of the largest task of a partitioned search.

    The row order, which every task holds, is not included.
    """
    graph, p, dims = sizes.config.graph, sizes.partition_rows, sizes.dims[modality]
    row, width = dims * sizes.itemsize, min(dims, SEARCH_DIMS)
    point = 4 * (width + 1)
    rows = min(sizes.rows, graph.cluster_rows)
    visits = rows * graph.leaves_max
    centres = routing_centres(sizes.rows, graph.cluster_rows)
    sampled = min(sizes.rows, sample_size(centres))
    # The sample as parts, and joined; points; Gram matrix and its decomposition.
    sample = sampled * (2 * row + 3 * point + _POINT_BYTES) + p * row + 6 * 8 * dims**2
    # Features, in float64 and sorted; distances to centres; positions, numbers and centres.
    distances = min(CENTRE_TILES_BYTES, 5 * 8 * p * centres)
    spill = p * (2 * row + 8 * dims + 6 * 8) + distances
    # Features, unsorted and sorted, or with four arrays of points.
    split = rows * (row + max(row, 4 * point) + 6 * 8)
    # Rows that choose leaves: their points, keys of leaves and nodes; centroids; then per visit,
    # leaf and distance, unsorted and sorted.
    keys = min(rows, VISITING_ROWS) * (ROW_NODES * (NODE_LEAVES * 4 + 3 * 8) + 3 * point)
    visit = keys + _centroids(sizes, rows) * point + visits * _VISITS.chosen
    # Points of a group of leaves; candidates.
    received = int(_VISITS.received * visits)
    search = min(GROUP_VISITS, received) * 3 * 8 + min(GROUP_VISITS, sizes.rows) * point
    search += received * (_VISITS.searched + 8 * graph.k)
    own, kept = min(rows, refined_rows(dims)), kept_candidates(graph.k)
    # Candidates of a block: all, and sorted; features of some of them; neighbours found, twice.
    measured = min(MEASURED_BYTES, min(sizes.rows, own * (kept + 1)) * row)
    measure = own * (graph.leaves_max * graph.k * 8 + kept * 8 * 8) + measured
    measure += rows * graph.k * (8 + 8) * 2
    merge = p * graph.k * (8 + 8) * 3
    return max(sample, spill, split, visit, search, measure, merge)


def _centroids(sizes: ProblemSize, rows: int) -> int:
    """Bound the number of centroids of leaves and nodes that a task of ``rows`` rows reads."""
    least = leaf_rows(sizes.config.graph.k) // 2
    chosen = min(rows, VISITING_ROWS) * ROW_NODES * NODE_LEAVES
    return min(sizes.rows // least, chosen) + sizes.rows // (NODE_ROWS // 2)
