"""What the bytes of a plan follow from, and how they are added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from srch_dist.config.loading import TrainConfig
from srch_dist.kernels.clusters import order_clusters

MIB = 1 << 20
# Tiles of distances to centres of clusters, in several forms.
CENTRE_TILES_BYTES = 80 * MIB
# What importing k-means adds to every process.
_K_MEANS_BYTES = 120 * MIB


@dataclass(frozen=True)
class Sizes:
    """What the formulas depend on.

    Attributes
    ----------
    rows : n. partition : rows of a partition. resident : rows of the fullest worker's blocks.
    columns : columns of Z that are solved at a time. length_columns : those that edge lengths are
        worked out of at a time, at least as many. spilled : whether the graph is on disk then.
    dims : d_g by modality. itemsize : bytes of a feature value in training.
    methods : neighbour search by modality. cached : partitions of X kept by each worker.
    degree : ends of edges a row as counted; None before they are. workers : of the cluster.
    blocks : of the Z-step, over all workers.
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
    spilled: bool = False
    degree: float | None = None
    workers: int = 1
    blocks: int = 1
    length_columns: int = 0

    @property
    def total(self) -> int:
        """Σ d_g."""
        return sum(self.dims.values())

    @property
    def parts(self) -> int:
        """Partitions."""
        return -(-self.rows // self.partition)

    @property
    def groups_at_once(self) -> int:
        """Groups of columns that are worked on at the same time; see `Plan.groups_at_once`."""
        return self.workers if self.blocks == 1 else 1

    @property
    def length_sums(self) -> tuple[int, int]:
        """Sums of edge lengths over some columns that there are at once, and how often they grow.

        Of one block the workers have one each; of several there is one of each block.
        """
        columns = self.length_columns or self.columns
        groups = len(range(0, self.config.loop_bits, max(1, columns)))
        sums = min(groups, self.groups_at_once)
        return sums, -(-groups // sums)

    @property
    def edges_a_row(self) -> float:
        """Ends of edges a row, on average: before they are counted the most there can be.

        That is 2 k for each modality's union graph.
        """
        return self.most_edges_a_row if self.degree is None else self.degree

    @property
    def most_edges_a_row(self) -> int:
        """Ends of edges a row, on average, at most."""
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


def chosen_bytes(sizes: Sizes) -> int:
    """Choosing a sample of the rows: their numbers, hashes and the order of these."""
    return 6 * 8 * sizes.rows


def cache_bytes(sizes: Sizes) -> int:
    """Features of the partitions that a worker keeps."""
    return sizes.cached * sizes.partition * sizes.total * sizes.itemsize


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
