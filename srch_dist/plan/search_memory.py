"""Memory model of the neighbour search: exact, one NN-descent index, or one index per cluster.

Bytes per value are literal numbers: 8 for float64 and int64, 4 for float32. Each neighbour in the
result needs 16 bytes: 8 for its row number and 8 for its distance.
"""

from __future__ import annotations

from dataclasses import dataclass

from srch_dist.kernels.clusters import (
    CENTRES_PER_CLUSTER,
    PROJECTED,
    routing_clusters,
    sample_size,
)
from srch_dist.kernels.graph.neighbours import (
    QUERY_TILE,
    ROW_TILE,
    SPARE_CLUSTER,
    SPARE_WHOLE,
)
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


_INDEX = _IndexBytes()


def neighbour_bytes(sizes: ProblemSize) -> int:
    """Compute memory of a neighbour-search task: the maximum over the modalities."""
    k, p, peak = sizes.config.graph.k, sizes.partition_rows, sampling_bytes(sizes)
    for g, method in sizes.methods.items():
        dims, memory = sizes.dims[g], MemoryModel()
        memory.allocate(8 * sizes.rows)  # row order
        if method == "pynndescent":
            memory.allocate(_index_bytes(sizes, g, sizes.rows, SPARE_WHOLE))
        elif method == "partitioned":
            memory.allocate(_partitioned_bytes(sizes, g))
        else:
            memory.allocate(2 * p * dims * sizes.itemsize)  # queries and block
            # Per row of a tile: distances to the tile's queries, and rows and queries in float32.
            memory.allocate(min(p, ROW_TILE) * (_TILE_ARRAYS * QUERY_TILE * 4 + 2 * dims * 4))
            memory.allocate(2 * p * k * (8 + 8))  # neighbours so far, and merged
        peak = max(peak, memory.peak)
    return peak


def whole_index_row(k: int) -> int:
    """Compute the bytes that an NN-descent index of all rows needs per row, without features."""
    return _INDEX.building * (k + 1 + SPARE_WHOLE)


def _index_bytes(sizes: ProblemSize, modality: str, rows: int, spare: int) -> int:
    """Compute memory of NN-descent on ``rows`` rows, with k + 1 + ``spare`` neighbours each.

    The result is the maximum of three phases. First, features are reduced to at most half of their
    dimensions or converted to float32. Then the index is built on the reduced rows. Last, features
    are read again for the distances.
    """
    neighbours, dims = sizes.config.graph.k + 1 + spare, sizes.dims[modality]
    features = sizes.itemsize * dims
    reduce = features + (4 if sizes.itemsize > 4 else 2) * dims
    build = 4 * dims + _INDEX.building * neighbours
    refine = features + _INDEX.refining * neighbours
    return COMPILED_BYTES + rows * max(reduce, build, refine)


def _partitioned_bytes(sizes: ProblemSize, modality: str) -> int:
    """Compute memory of the largest task of a partitioned search.

    The row order, which every task holds, is not included.
    """
    graph, p, dims = sizes.config.graph, sizes.partition_rows, sizes.dims[modality]
    overlap, block = graph.overlap_max, p * dims * sizes.itemsize
    width = min(dims, PROJECTED)
    points = min(sizes.rows, sample_size(routing_clusters(sizes.rows, graph.cluster_rows)))
    # k-means: points as parts, joined, and in use; one partition's rows, raw and projected.
    sample = points * (3 * width * 4 + _POINT_BYTES) + 2 * p * (dims + width) * 8
    # Per row and route: numbers of the nearest centres, and the cluster chosen from them.
    route = block + p * (dims + width) * 8 + p * overlap * (CENTRES_PER_CLUSTER + 1) * 8
    route += CENTRE_TILES_BYTES
    # Per row and route: row, overlap level and cluster, unsorted and sorted.
    spill = block * (1 + overlap) + p * overlap * 6 * 8
    # Rows of a cluster, and the rows read from one scratch file.
    rows = min(sizes.rows, graph.cluster_rows * overlap)
    search = _index_bytes(sizes, modality, rows, SPARE_CLUSTER) + block
    # Neighbours from all clusters, their sort keys, and sorted copies of both.
    merge = p * overlap * graph.k * (8 + 8) * 4
    # Rows of two partitions, and eight arrays of k² candidates per row.
    refine = 2 * block + p * graph.k**2 * 8 * 8 if graph.refine else 0
    return max(sample, route, spill, search, merge, refine)
