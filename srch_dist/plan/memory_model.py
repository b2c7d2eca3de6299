"""The memory model: allocations of a task, the split of a worker's memory, shared amounts.

`srch_dist.plan` defines the terms.
"""

from __future__ import annotations

from collections.abc import Mapping

from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import TILE_VALUES, order_clusters
from srch_dist.plan.problem import ProblemSize

MIB = 1 << 20
# Dask pauses a worker near its memory limit, so a stage is planned below this share of the limit.
ALLOWED_SHARE = 0.8
# Resident memory of an idle worker with its imports, before any work.
_IMPORTS_BYTES = 220 * MIB
# Freed memory that a worker's C library keeps; `runtime.cluster.ALLOCATOR` has it keep 64 MiB.
_ALLOCATOR_BYTES = 80 * MIB
# Resident memory that importing k-means adds to a process.
_K_MEANS_BYTES = 120 * MIB
# `nearest_centres` holds five arrays of the size of a tile of float64 distances.
CENTRE_TILES_BYTES = 5 * 8 * TILE_VALUES


class MemoryModel:
    """Bytes that a task has allocated, and their peak.

    Attributes
    ----------
    current : bytes allocated and not freed.
    peak : largest ``current`` so far.
    """

    def __init__(self) -> None:
        self.current = 0
        self.peak = 0

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes and return ``size``, for a later `free`."""
        self.current += size
        self.peak = max(self.peak, self.current)
        return size

    def free(self, size: int) -> None:
        """Free ``size`` bytes."""
        self.current -= size

    def transient(self, size: int) -> None:
        """Allocate ``size`` bytes and free them at once."""
        self.free(self.allocate(size))


def allowed_bytes(memory_limit: int, reserved: int) -> int:
    """Allowed memory; negative if a worker's imports need more than 80 % of its limit."""
    return int(memory_limit * ALLOWED_SHARE) - reserved


def headroom_bytes(memory_limit: int) -> int:
    """The part of the memory limit that no stage may use; the page cache fills it."""
    return int(memory_limit * (1 - ALLOWED_SHARE))


def reserved_bytes(rows: int, methods: Mapping[str, str], config: TrainConfig) -> int:
    """Reserved memory of a worker of a run."""
    return _IMPORTS_BYTES + _ALLOCATOR_BYTES + k_means_bytes(rows, methods, config)


def k_means_bytes(rows: int, methods: Mapping[str, str], config: TrainConfig) -> int:
    """Memory of importing k-means; 0 for a run that clusters no rows."""
    ordered = order_clusters(rows, config.graph.order_rows) > 1
    return _K_MEANS_BYTES if ordered or "partitioned" in methods.values() else 0


def sampling_bytes(sizes: ProblemSize) -> int:
    """Memory of choosing a sample by hash: row numbers, hashes and their order, over all rows."""
    return 6 * 8 * sizes.rows


def cache_bytes(sizes: ProblemSize) -> int:
    """Memory of the features that a worker caches for the loop."""
    return sizes.cached_partitions * sizes.partition_rows * sizes.total_dims * sizes.itemsize
