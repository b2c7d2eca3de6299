"""Bytes of memory and disk that a run takes, from shapes and options alone.

Each function of a stage walks through one task of it and adds bytes in the order in which the task
allocates them, releasing them where the task does; the peak is what the plan reckons with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from srch_dist.config import TrainConfig
from srch_dist.kernels.aggregation import ZONE_ROWS
from srch_dist.kernels.anchors import TILE
from srch_dist.kernels.clusters import (
    PROJECTED,
    SAMPLE_CHUNK,
    order_clusters,
    routing_clusters,
    sample_size,
)
from srch_dist.kernels.edges import CONNECTED_EDGES
from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.laplacian import DISTANCE_VALUES

MIB = 1 << 20
# What compiling NN-descent adds to a worker.
_COMPILED_BYTES = 500 * MIB
# Chunks of a feature store made by `srch_dist.ingest`; the widest type that a store may have.
_STORED_CHUNK_BYTES, _STORED_ITEMSIZE = 32 * MIB, 8
# Rows of a tile of the exact search, and bytes a row: distances to 1024 others, float32, their
# partition, and what is compared.
_SEARCH_TILE, _SEARCH_TILE_BYTES = 4096, 1024 * 4 * 6
# Edges of the S-step whose terms are worked out at once.
_TERM_EDGES = 1 << 20
# What importing k-means adds to every process.
_K_MEANS_BYTES = 120 * MIB
# Tiles of distances to centres of clusters, in several forms.
_CENTRE_TILES_BYTES = 80 * MIB
# Final codes that a task brings into the order of the store; see `condensing.restore_codes`.
_RESTORED_BYTES = 32 * MIB


@dataclass(frozen=True)
class Sizes:
    """What the formulas depend on.

    Attributes
    ----------
    rows : n. partition : rows of a partition. resident : rows of the fullest worker's blocks.
    columns : columns of Z that are solved at a time.
    dims : d_g by modality. itemsize : bytes of a feature value in training.
    methods : neighbour search by modality. cached : partitions of X kept by each worker.
    """

    rows: int
    partition: int
    resident: int
    columns: int
    dims: Mapping[str, int]
    itemsize: int
    methods: Mapping[str, str]
    cached: int
    config: TrainConfig

    @property
    def total(self) -> int:
        """Σ d_g."""
        return sum(self.dims.values())

    @property
    def parts(self) -> int:
        """Partitions."""
        return -(-self.rows // self.partition)

    @property
    def edges_a_row(self) -> int:
        """Most ends of edges a row, on average: 2 k for each modality's union graph."""
        both = 1 if self.config.graph.symmetry == "mutual" else 2
        return both * self.config.graph.k * len(self.dims)


class Tally:
    """Bytes that a task holds, and the most that it held."""

    def __init__(self) -> None:
        self.held = 0
        self.peak = 0

    def hold(self, size: int) -> int:
        """Allocate ``size`` bytes."""
        self.held += size
        self.peak = max(self.peak, self.held)
        return size

    def release(self, size: int) -> None:
        """Free ``size`` bytes."""
        self.held -= size

    def pass_by(self, size: int) -> None:
        """Allocate and free ``size`` bytes."""
        self.release(self.hold(size))


def feature_bytes(sizes: Sizes) -> int:
    """Memory of a task of the first passes: raw rows, normalised rows, Gram matrices, shuffle."""
    p, bits = sizes.partition, sizes.config.loop_bits
    widest, parts = max(sizes.dims.values()), sizes.parts
    clusters = order_clusters(sizes.rows, sizes.config.graph.order_rows)
    sampled = min(1.0, sample_size(clusters) / sizes.rows) if clusters > 1 else 0.0
    raw = p * widest * _STORED_ITEMSIZE
    chunks = min(2 * _STORED_CHUNK_BYTES, sizes.rows * widest * _STORED_ITEMSIZE)
    sums = Tally()
    sums.hold(int(sampled * p * sizes.total) * _STORED_ITEMSIZE)  # rows that are set aside
    sums.hold(raw)  # a modality's rows as stored
    # While they are read: chunks of the store, decoded and checked, and the rows picked from them.
    sums.pass_by(raw + chunks)
    sums.pass_by(2 * p * widest * 8)  # float64 of them and its magnitudes, for their range
    prepare, before = Tally(), 0
    for dims in sizes.dims.values():
        stored = prepare.hold(p * dims * _STORED_ITEMSIZE)  # rows as stored
        prepare.pass_by(stored + chunks)  # as above
        prepare.release(before)
        wide = prepare.hold(p * dims * 8)  # float64, centred and scaled in place
        normalised = prepare.hold(p * dims * sizes.itemsize)  # kept until the products are done
        prepare.release(wide)
        prepare.pass_by(normalised)  # its magnitudes, for their range
        before = stored
    prepare.release(before)
    prepare.hold(p * bits)  # first codes
    prepare.pass_by(3 * p * bits)  # and the bits that they are unpacked from
    if clusters > 1:
        # The projections of the modalities, beside each other and one in float64.
        prepare.pass_by(p * (widest + 2 * PROJECTED * len(sizes.dims)) * 8 + _CENTRE_TILES_BYTES)
    prepare.pass_by(p * (sizes.total * sizes.itemsize + 4 * 8))  # a copy sorted by cluster
    prepare.hold(8 * sizes.total**2)  # Gram matrices, (d_g, d_h) of each pair, at most
    prepare.pass_by(8 * widest**2)  # the product of a tile
    prepare.hold(8 * sizes.total * bits)  # X B'
    prepare.pass_by(8 * p * bits + 8 * widest * bits)  # float64 codes, the product of a tile
    # Adding partial sums holds eight of them and a total.
    adding = 9 * 8 * (sizes.total**2 + sizes.total * bits)
    # Where each file is cut for each partition, from counts by cluster.
    bounds = 4 * 8 * (parts * clusters + parts**2)
    # Rows from all files, sorted, encoded with their checksum, and as the chunk's bytes.
    gather = 3 * p * widest * sizes.itemsize + 6 * 8 * p
    return max(sums.peak, prepare.peak, adding, bounds, gather)


def neighbour_bytes(sizes: Sizes) -> int:
    """Memory of a task of the neighbour search, the largest over the modalities."""
    k, p, peak = sizes.config.graph.k, sizes.partition, _chosen_bytes(sizes)
    for g, method in sizes.methods.items():
        task = Tally()
        task.hold(8 * sizes.rows)  # the order of the rows
        if method == "pynndescent":
            task.hold(_index_bytes(sizes, g, sizes.rows))
        elif method == "partitioned":
            task.hold(_partitioned_bytes(sizes, g))
        else:
            task.hold(
                2 * p * sizes.dims[g] * sizes.itemsize
            )  # Tiles of distances in several forms, and of rows in float32.
            task.hold(min(p, _SEARCH_TILE) * (_SEARCH_TILE_BYTES + 2 * sizes.dims[g] * 4))
            task.hold(2 * p * k * 16)  # neighbours so far, and merged
        peak = max(peak, task.peak)
    return peak


def _chosen_bytes(sizes: Sizes) -> int:
    """Choosing a sample of the rows: their numbers, hashes and the order of these."""
    return 6 * 8 * sizes.rows


def _index_bytes(sizes: Sizes, modality: str, rows: int) -> int:
    """Rows with an NN-descent index of them: a float32 copy where they are wider, and its graph."""
    copy = 4 if sizes.itemsize > 4 else 0
    width = sizes.dims[modality] * (sizes.itemsize + copy) + 80 * sizes.config.graph.k
    return _COMPILED_BYTES + rows * width


def _partitioned_bytes(sizes: Sizes, modality: str) -> int:
    """The fullest task of a partitioned search, beyond the order of the rows."""
    graph, p, dims = sizes.config.graph, sizes.partition, sizes.dims[modality]
    most, block = graph.overlap_max, p * dims * sizes.itemsize
    width = min(dims, PROJECTED)
    points = min(sizes.rows, sample_size(routing_clusters(sizes.rows, graph.cluster_rows)))
    # The sampled points in parts and as one, or counted; a partition's rows in both widths.
    sample = points * (3 * width * 4 + 100) + 2 * p * (dims + width) * 8
    route = block + p * (dims + width) * 8 + p * most * 5 * 8 + _CENTRE_TILES_BYTES
    spill = block * (1 + most) + p * most * 6 * 8
    # A cluster's rows, one file's while they are gathered, and what is found.
    rows = min(sizes.rows, graph.cluster_rows * most)
    search = _index_bytes(sizes, modality, rows) + block
    merge = p * most * graph.k * 16 * 4
    refine = 2 * block + p * graph.k**2 * 8 * 8 if graph.refine else 0
    return max(sample, route, spill, search, merge, refine)


def graph_bytes(sizes: Sizes) -> int:
    """Memory of a task that writes a block's edges."""
    rows, k, count = sizes.resident, sizes.config.graph.k, len(sizes.dims)
    directed, edges = rows * k * 8, rows * sizes.edges_a_row
    task = Tally()
    task.hold(2 * 8 * sizes.rows)  # the order of all rows, and its inverse
    task.hold(count * 2 * directed)  # sorted keys of each modality's edges
    task.hold(2 * directed)  # keys out of the block's rows, and about as many into them
    task.pass_by(3 * 2 * directed)  # both, sorted, and what is distinct of them
    task.release(2 * directed)
    # The modalities' keys in one order, with what sorting takes, or what is distinct of them.
    task.pass_by(3 * 8 * edges)
    task.release(count * 2 * directed)
    task.hold(edges * (8 + count) + 8 * rows)  # neighbours, members, ends of rows
    task.pass_by(8 * edges)  # running counts of a modality's members
    # Components: both ends of edges and of earlier connections, their order, sorted and
    # renumbered; a sparse matrix twice.
    connected = min(edges, CONNECTED_EDGES) + min(edges, sizes.rows)
    task.pass_by(connected * (2 * 8 * 4 + 2 * 9))
    return task.peak


def solve_bytes(resident: int, columns: int, dims: Mapping[str, int], config: TrainConfig) -> int:
    """Memory of the Z-step on ``resident`` rows, for ``columns`` columns at a time."""
    itemsize = vector_dtype(config).itemsize
    edges = 2 * config.graph.k * len(dims)
    task = Tally()
    task.hold(_block_bytes(resident * edges, resident))
    task.hold(4 * resident * edges)  # edge lengths
    task.pass_by(2 * 8 * resident * edges)  # lengths and S in float64
    task.hold(resident * (edges + 1) * itemsize)  # the matrix, with the indices of the block
    if config.solver.coarse != "off":
        task.hold(3 * 8 * resident)  # aggregates
        # While rows are aggregated, the edges of a zone are copied about twice.
        task.pass_by(min(resident, ZONE_ROWS) * edges * 48)
    # An update holds six vectors and makes five; three more are the halo and its rows joined.
    task.hold(14 * resident * columns * itemsize)
    return task.peak


def length_bytes(sizes: Sizes) -> int:
    """Memory of the S-step: edge lengths of a block, and the terms of Eq. 9."""
    edges = sizes.resident * sizes.edges_a_row
    task = Tally()
    task.hold(kept_bytes(sizes))
    task.hold((1 if sizes.columns >= sizes.config.loop_bits else 2) * 8 * edges)  # lengths so far
    if sizes.resident < sizes.rows:
        task.hold(2 * sizes.resident * sizes.columns * 4)  # Z with its halo
    values = min(DISTANCE_VALUES, edges * sizes.columns)
    task.pass_by(values * (4 + 8 + 4 + 8))  # Z at both ends, as stored and in float64
    task.pass_by(min(edges, _TERM_EDGES) * 8 * 8)  # weights, lengths and their terms
    return task.peak


def code_bytes(sizes: Sizes) -> int:
    """Memory of a task of the B-step: a partition, the next one being read, and the sums.

    Graph and Z stay where the Z-step left them; see `kept_bytes`.
    """
    p, bits, dtype = sizes.partition, sizes.config.loop_bits, sizes.itemsize
    widest = max(sizes.dims.values())
    inputs = p * (sizes.total * dtype + bits * 4 + bits // 8)  # X, Z, codes before
    task = Tally()
    task.hold(inputs)
    if not sizes.cached:
        task.hold(inputs)  # of the next partition
        task.hold(2 * p * widest * dtype)  # a chunk as bytes, and checked, while it is read
    task.hold(8 * (sizes.total * bits + bits**2))  # sums
    task.hold(sizes.total * bits * dtype)  # projections
    task.hold(2 * p * bits)  # codes, new and before, as bytes
    # A tile: scores, codes and differences in float64, products of both kinds.
    task.pass_by(TILE_ROWS * bits * 8 * 6 + 8 * widest * bits * 2)
    task.pass_by(3 * p * bits // 8)  # packed codes, encoded and as the chunk's bytes
    adding = 9 * 8 * (sizes.total * bits + bits**2)
    return max(task.peak, adding)


def model_bytes(sizes: Sizes) -> int:
    """Memory of a task of the passes after the loop: encoders, final codes, their order."""
    method, bits = sizes.config.method, max(sizes.config.bits, sizes.config.loop_bits)
    p, item, widest = sizes.partition, sizes.itemsize, max(sizes.dims.values())
    inputs, count = p * sizes.total * item, len(sizes.dims)
    anchors = min(method.anchors, sizes.rows) if method.encoder == "anchors" else 0
    tile = 4 * min(TILE, p) * anchors * 8  # similarities to the anchors, and what they come from
    # The anchors' sums in a task; adding partial ones holds eight of them and a total.
    sums = anchors * (anchors + widest + bits) * 8
    fit = p * widest * item + 2 * anchors * widest * 8 + p * bits * 2 + tile + 2 * sums
    spread = 0
    if method.directions:
        model = sizes.total * (anchors + bits) * 8 + count * anchors * bits * 8
        products = 8 * ((count + 1) * bits) ** 2 + 8 * sizes.total * bits
        # Features; scores of each modality, beside each other and mixed; codes as numbers.
        scores = p * bits * (2 * count * item + 5 * 8)
        spread = 2 * model + inputs + scores + tile + 2 * products
        spread = max(spread, 9 * products)
    # The order of all rows and which are wanted; codes as read and as written.
    restored = max(p * bits // 8, _RESTORED_BYTES)
    restore = sizes.rows * (8 + 3) + restored * (3 + 2 * 64 // bits)
    return max(fit, 9 * sums, spread, restore, _chosen_bytes(sizes))


def kept_bytes(sizes: Sizes) -> int:
    """What a worker keeps from one step to the next: graph, edge lengths, Z, and cached X.

    With several groups of columns, Z is read where it is used, a group at a time.
    """
    edges = sizes.resident * sizes.edges_a_row
    blocks = _block_bytes(edges, sizes.resident)
    return blocks + edges * 4 + sizes.resident * sizes.columns * 4 + cache_bytes(sizes)


def _block_bytes(edges: int, rows: int) -> int:
    """A `GraphBlock`: columns, weights, multiplicity, which end counts; ends of rows."""
    return edges * (4 + 8 + 1 + 1) + rows * 4


def cache_bytes(sizes: Sizes) -> int:
    """Features of the partitions that a worker keeps."""
    return sizes.cached * sizes.partition * sizes.total * sizes.itemsize


def client_bytes(sizes: Sizes) -> int:
    """Memory of the client, beyond its idle size: a few numbers a row, and matrices of d and l."""
    method, bits = sizes.config.method, max(sizes.config.bits, sizes.config.loop_bits)
    task = Tally()
    task.hold(imported_bytes(sizes.rows, sizes.methods, sizes.config))
    task.hold(5 * 8 * sizes.rows)  # row numbers, their hashes, and the order while one is chosen
    task.release(4 * 8 * sizes.rows)
    task.hold(8 * sizes.total**2)  # Gram matrices
    task.pass_by(4 * 8 * sizes.total * bits)  # X B', W and the factors of the SVD
    if method.encoder == "anchors":
        m = min(method.anchors, sizes.rows)
        task.hold(8 * m * sum(m + 2 * d for d in sizes.dims.values()))  # anchors and their sums
        # The system of an encoder, with its penalty, and factored.
        task.pass_by(3 * 8 * (m + max(sizes.dims.values())) ** 2)
    return task.peak


def disk_bytes(sizes: Sizes) -> dict[str, int]:
    """The run directory at its largest, by array; see `storage.run`."""
    n, graph, count = sizes.rows, sizes.config.graph, len(sizes.dims)
    bits, loop_bits = sizes.config.bits, sizes.config.loop_bits
    edges = n * sizes.edges_a_row
    routed = [sizes.dims[g] for g, method in sizes.methods.items() if method == "partitioned"]
    later = {
        "degrees": n * count * 4,
        "edges": n * 8 + edges * (8 + count * (1 + 4)),  # indptr; indices, members, weights
        # The last two, and the one that is being written.
        "checkpoints": 3 * n * (loop_bits * 4 + loop_bits // 8),
        "codes and rows": n * (bits // 8 + 8),
    }
    if sizes.config.method.directions:
        later["codes in training order"] = n * bits // 8
    # A second copy of the features while they are put in order; those sent to clusters, with what
    # is found there.
    ordering = n * (sizes.total * sizes.itemsize + 3 * 8)
    search = n * graph.overlap_max * (max(routed, default=0) * sizes.itemsize + 17 + 16 * graph.k)
    neighbours = n * graph.k * count * (8 + 8)  # row numbers and distances
    shuffle = max(ordering - neighbours, search if routed else 0)
    return {
        **{f"features {g}": n * d * sizes.itemsize for g, d in sizes.dims.items()},
        "order and routes": n * 8 * (1 + graph.overlap_max * len(routed)) + _points_bytes(sizes),
        "neighbours": neighbours,
        **later,
        # Scratch files are gone before these are written, and count where they are more.
        "scratch": max(0, shuffle - sum(later.values())),
    }


def _points_bytes(sizes: Sizes) -> int:
    """Sampled rows as they are clustered, in whole chunks, for the order and for each routing."""
    graph, rows, size = sizes.config.graph, sizes.rows, 0
    ordered = order_clusters(rows, graph.order_rows)
    if ordered > 1:
        size += -(-min(rows, sample_size(ordered)) // SAMPLE_CHUNK) * PROJECTED
    sampled = min(rows, sample_size(routing_clusters(rows, graph.cluster_rows)))
    for g, method in sizes.methods.items():
        if method == "partitioned":
            size += -(-sampled // SAMPLE_CHUNK) * min(sizes.dims[g], PROJECTED)
    return size * SAMPLE_CHUNK * 4


def imported_bytes(rows: int, methods: Mapping[str, str], config: TrainConfig) -> int:
    """What a worker holds of libraries that only runs with clusters of rows import."""
    ordered = order_clusters(rows, config.graph.order_rows) > 1
    return _K_MEANS_BYTES if ordered or "partitioned" in methods.values() else 0


def vector_dtype(config: TrainConfig) -> np.dtype[Any]:
    """Arithmetic of the Z-step's vectors.

    float32 halves memory and traffic, and serves where its rounding of λH against βI stays well
    below the tolerance: for ``balanced`` it does, for the printed β = 1e-3 it does not (a residual
    of 1e-4 was 2e-3 in truth). No partitioning changes a result in float32 either: products add
    along a row in one order, and sums over rows are in float64.
    """
    method, tolerance = config.method, config.solver.tolerance
    rounding = float(np.finfo(np.float32).eps) * (1 + method.lam * config.graph.k / method.beta)
    return np.dtype(np.float32 if tolerance >= max(1e-5, 2 * rounding) else np.float64)
