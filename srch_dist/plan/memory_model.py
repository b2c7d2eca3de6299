"""Memory model: allocations of a task, and the split of a worker's memory limit.

`srch_dist.plan` defines the terms.
"""

from __future__ import annotations

from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import TILE_VALUES, order_clusters
from srch_dist.plan.problem import ProblemSize

MIB = 1 << 20
# Share of the memory limit that a stage may use, since Dask pauses a worker near its limit.
ALLOWED_SHARE = 0.8
# Resident memory of an idle worker with its imports, before any work.
_IMPORTS_BYTES = 220 * MIB
# Freed memory that a worker's C library keeps; `local_cluster.ALLOCATOR` limits it to 64 MiB.
_ALLOCATOR_BYTES = 80 * MIB
# Resident memory that importing k-means adds to a process.
_K_MEANS_BYTES = 120 * MIB
# `nearest_centres` allocates five float64 arrays of `TILE_VALUES` values.
CENTRE_TILES_BYTES = 5 * 8 * TILE_VALUES


class MemoryModel:
    """Counter of the bytes that a task allocates, and of their peak.

    Attributes
    ----------
    current : bytes allocated and not freed.
    peak : largest ``current`` so far.
    """

    def __init__(self) -> None:
        self.current = 0
        self.peak = 0

    def allocate(self, size: int) -> int:
        """Count ``size`` bytes as allocated, and return ``size`` for a later `free`."""
        self.current += size
        self.peak = max(self.peak, self.current)
        return size

    def free(self, size: int) -> None:
        """Count ``size`` bytes as freed."""
        self.current -= size

    def transient(self, size: int) -> None:
        """Count ``size`` bytes as allocated, then as freed at once."""
        self.free(self.allocate(size))


def allowed_bytes(memory_limit: int, reserved: int) -> int:
    """Compute allowed memory in bytes; negative if ``reserved`` exceeds 80 % of the limit."""
    return int(memory_limit * ALLOWED_SHARE) - reserved


def headroom_bytes(memory_limit: int) -> int:
    """Compute the part of the memory limit, in bytes, that stages leave to the page cache."""
    return int(memory_limit * (1 - ALLOWED_SHARE))


def reserved_bytes(rows: int, config: TrainConfig) -> int:
    """Compute the reserved memory of a worker: imports, and freed memory that it keeps."""
    return _IMPORTS_BYTES + _ALLOCATOR_BYTES + k_means_bytes(rows, config)


def k_means_bytes(rows: int, config: TrainConfig) -> int:
    """Compute the memory that importing k-means needs; 0 if the rows keep the store's order."""
    ordered = order_clusters(rows, config.graph.order_rows) > 1
    return _K_MEANS_BYTES if ordered else 0


def sampling_bytes(sizes: ProblemSize) -> int:
    """Compute memory of sampling by hash: row numbers, hashes and sort order of all rows."""
    return 6 * 8 * sizes.rows


def cache_bytes(sizes: ProblemSize) -> int:
    """Compute memory of the features that a worker caches for the loop."""
    return sizes.cached_partitions * sizes.partition_rows * sizes.total_dims * sizes.itemsize
