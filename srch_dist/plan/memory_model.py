"""What the bytes of a plan follow from, and how they are added up."""

from __future__ import annotations

from collections.abc import Mapping

from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import TILE_VALUES, order_clusters
from srch_dist.plan.problem import ProblemSize

MIB = 1 << 20
# `nearest_centres` holds five arrays of the size of a tile of float64 distances.
CENTRE_TILES_BYTES = 5 * 8 * TILE_VALUES
# What importing k-means adds to every process.
_K_MEANS_BYTES = 120 * MIB


class MemoryModel:
    """Bytes that a task holds, and the most that it held."""

    def __init__(self) -> None:
        self.held = 0
        self.peak = 0

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes."""
        self.held += size
        self.peak = max(self.peak, self.held)
        return size

    def free(self, size: int) -> None:
        """Free ``size`` bytes."""
        self.held -= size

    def transient(self, size: int) -> None:
        """Allocate and free ``size`` bytes."""
        self.free(self.allocate(size))


def chosen_bytes(sizes: ProblemSize) -> int:
    """Choosing a sample of the rows: their numbers, hashes and the order of these."""
    return 6 * 8 * sizes.rows


def cache_bytes(sizes: ProblemSize) -> int:
    """Features of the partitions that a worker keeps."""
    return sizes.cached * sizes.partition * sizes.total * sizes.itemsize


def imported_bytes(rows: int, methods: Mapping[str, str], config: TrainConfig) -> int:
    """What a worker holds of libraries that only runs with clusters of rows import."""
    ordered = order_clusters(rows, config.graph.order_rows) > 1
    return _K_MEANS_BYTES if ordered or "partitioned" in methods.values() else 0
