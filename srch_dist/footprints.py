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
from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.laplacian import DISTANCE_VALUES

MIB = 1 << 20
# What compiling NN-descent adds to a worker.
_COMPILED_BYTES = 500 * MIB
# Chunks of a feature store made by `srch_dist.ingest`; the widest type that a store may have.
_STORED_CHUNK_BYTES, _STORED_ITEMSIZE = 32 * MIB, 8
# Tiles of distances of the exact search, with their partition and the candidates' differences.
_SEARCH_TILES_BYTES = 96 * MIB


@dataclass(frozen=True)
class Sizes:
    """What the formulas depend on.

    Attributes
    ----------
    rows : n. partition : rows of a partition. resident : rows of the fullest worker's blocks.
    dims : d_g by modality. itemsize : bytes of a feature value in training.
    methods : neighbour search by modality. cached : partitions of X kept by each worker.
    """

    rows: int
    partition: int
    resident: int
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
    """Memory of a task of the first passes: raw rows, normalised rows, Gram matrices."""
    p, bits = sizes.partition, sizes.config.bits
    widest = max(sizes.dims.values())
    raw = p * widest * _STORED_ITEMSIZE
    chunks = min(2 * _STORED_CHUNK_BYTES, sizes.rows * widest * _STORED_ITEMSIZE)
    sums = Tally()
    sums.hold(raw)  # a modality's rows as stored
    # While they are read: chunks of the store, decoded and checked, and the rows picked from them.
    sums.pass_by(raw + chunks)
    sums.pass_by(2 * p * widest * 8)  # float64 of them and its magnitudes, for their range
    prepare = Tally()
    prepare.hold(p * bits)  # first codes
    prepare.pass_by(3 * p * bits)  # and the bits that they are unpacked from
    for dims in sizes.dims.values():
        stored = prepare.hold(p * dims * _STORED_ITEMSIZE)  # rows as stored
        prepare.pass_by(stored + chunks)  # as above
        wide = prepare.hold(p * dims * 8)  # float64, centred and scaled in place
        normalised = prepare.hold(p * dims * sizes.itemsize)  # kept until the products are done
        prepare.release(wide)
        prepare.pass_by(2 * normalised)  # encoded with its checksum, and as the chunk's bytes
        prepare.release(stored)
    prepare.hold(8 * sizes.total**2)  # Gram matrices, (d_g, d_h) of each pair, at most
    prepare.pass_by(8 * widest**2)  # the product of a tile
    prepare.hold(8 * sizes.total * bits)  # X B'
    prepare.pass_by(8 * p * bits + 8 * widest * bits)  # float64 codes, the product of a tile
    # Adding partial sums holds eight of them and a total.
    adding = 9 * 8 * (sizes.total**2 + sizes.total * bits)
    return max(sums.peak, prepare.peak, adding)


def neighbour_bytes(sizes: Sizes) -> int:
    """Memory of a task of the neighbour search, the largest over the modalities."""
    k, peak = sizes.config.graph.k, 0
    for g, method in sizes.methods.items():
        task = Tally()
        if method == "pynndescent":
            task.hold(_COMPILED_BYTES)
            task.hold(sizes.rows * sizes.dims[g] * sizes.itemsize)  # all rows
            task.hold(sizes.rows * sizes.dims[g] * 8)  # the copy in the index, and its conversion
            task.hold(sizes.rows * 60 * k)  # trees, graph and result
        else:
            task.hold(2 * sizes.partition * sizes.dims[g] * sizes.itemsize)  # queries, a partition
            task.hold(2 * sizes.partition * sizes.dims[g] * 4)  # their float32 tiles, at most
            task.hold(_SEARCH_TILES_BYTES)
            task.hold(2 * sizes.partition * k * 16)  # neighbours so far, and merged
        peak = max(peak, task.peak)
    return peak


def graph_bytes(sizes: Sizes) -> int:
    """Memory of a task that writes a block's edges."""
    rows, k, count = sizes.resident, sizes.config.graph.k, len(sizes.dims)
    directed, edges = rows * k * 8, rows * sizes.edges_a_row
    task = Tally()
    task.hold(count * 2 * directed)  # sorted keys of each modality's edges
    task.hold(2 * directed)  # keys out of the block's rows, and about as many into them
    task.pass_by(3 * 2 * directed)  # both, sorted, and what is distinct of them
    task.release(2 * directed)
    task.pass_by(5 * 8 * edges)  # the modalities' keys in one order, and which hold each
    task.hold(edges * (8 + count) + 8 * rows)  # neighbours, members, ends of rows
    task.pass_by(edges * count * 8 * 2)  # running counts of the members
    task.hold(8 * edges)  # owners
    # Components: both ends, their order, sorted and renumbered; a sparse matrix twice.
    task.pass_by(2 * edges * 8 * 4 + edges * 2 * 9)
    return task.peak


def solve_bytes(resident: int, dims: Mapping[str, int], config: TrainConfig) -> int:
    """Memory of the Z-step on ``resident`` rows."""
    itemsize, count = vector_dtype(config).itemsize, len(dims)
    edges = 2 * config.graph.k * count * resident
    task = Tally()
    task.hold(_block_bytes(edges, resident))
    task.hold(4 * edges)  # edge lengths
    task.hold(edges * (8 + itemsize) + resident * (8 + itemsize))  # the matrix
    # β B, the last Z, four vectors before and after an update, what is multiplied, its product, and
    # a temporary.
    task.hold(13 * resident * config.bits * itemsize)
    return task.peak


def length_bytes(sizes: Sizes) -> int:
    """Memory of the S-step: edge lengths of a block, and the terms of Eq. 9."""
    edges, bits = sizes.resident * sizes.edges_a_row, sizes.config.bits
    task = Tally()
    task.hold(kept_bytes(sizes))
    task.hold(2 * 8 * edges)  # owners and float64 lengths
    values = min(DISTANCE_VALUES, edges * bits)
    task.pass_by(values * (4 + 8 + 4 + 8))  # Z at both ends, as stored and in float64
    task.pass_by(5 * 8 * edges)  # weights, lengths and their terms
    return task.peak


def code_bytes(sizes: Sizes) -> int:
    """Memory of a task of the B-step: a partition, the next one being read, and the sums.

    Graph and Z stay where the Z-step left them; see `kept_bytes`.
    """
    p, bits, dtype = sizes.partition, sizes.config.bits, sizes.itemsize
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


def kept_bytes(sizes: Sizes) -> int:
    """What a worker keeps from one step to the next: graph, edge lengths, Z, and cached X."""
    edges = sizes.resident * sizes.edges_a_row
    blocks = _block_bytes(edges, sizes.resident)
    return blocks + edges * 4 + sizes.resident * sizes.config.bits * 4 + cache_bytes(sizes)


def _block_bytes(edges: int, rows: int) -> int:
    """A `GraphBlock`: columns, weights, multiplicity, which end counts; ends of rows."""
    return edges * (8 + 8 + 8 + 1) + rows * 8


def cache_bytes(sizes: Sizes) -> int:
    """Features of the partitions that a worker keeps."""
    return sizes.cached * sizes.partition * sizes.total * sizes.itemsize


def client_bytes(sizes: Sizes) -> int:
    """Memory of the client, beyond its idle size: a few numbers a row, and matrices of d and l."""
    bits = sizes.config.bits
    task = Tally()
    task.hold(5 * 8 * sizes.rows)  # row numbers, their hashes, and the order while one is chosen
    task.release(4 * 8 * sizes.rows)
    task.hold(8 * sizes.total**2)  # Gram matrices
    task.hold(4 * 8 * sizes.total * bits)  # X B', W and the factors of the SVD
    return task.peak


def disk_bytes(sizes: Sizes) -> dict[str, int]:
    """The run directory at its largest, by array; see `storage.run`."""
    n, k, bits, count = sizes.rows, sizes.config.graph.k, sizes.config.bits, len(sizes.dims)
    edges = n * sizes.edges_a_row
    return {
        **{f"features {g}": n * d * sizes.itemsize for g, d in sizes.dims.items()},
        "neighbours": n * k * count * (8 + 8),  # row numbers and distances
        "degrees": n * count * 4,
        "edges": n * 8 + edges * (8 + count * (1 + 4)),  # indptr; indices, members, weights
        # The last two, and the one that is being written.
        "checkpoints": 3 * n * (bits * 4 + bits // 8),
        "codes and rows": n * (bits // 8 + 8),
    }


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
