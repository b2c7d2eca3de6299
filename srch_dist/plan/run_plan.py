"""`Plan`: how a run is cut into partitions, blocks, column groups and passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from srch_dist.kernels.rbf import TILE

# A worker spills and pauses as it nears its limit; tasks are planned to stay below this share.
_USABLE = 0.8


# A task of a pass takes several partitions, so that it can read ahead, but not so many that
# workers run out of tasks at unequal times.
_PARTITIONS_A_TASK, _TASKS_A_WORKER = 8, 4


# Rows of a task of a pass after the loop, at least (whole tiles), and such tasks, at most.
_ENCODED_ROWS, _ENCODED_TASKS = 8 * TILE, 256
# Bytes of packed codes that one task writes in store order.
STORE_ORDER_BYTES = 32 << 20


@dataclass(frozen=True)
class StageMemory:
    """One stage of a run.

    Attributes
    ----------
    name : as shown. worker_bytes : the fullest worker at its fullest, beyond its idle size.
    tasks : tasks of its widest graph. at_once : how many of them run at the same time.
    """

    name: str
    worker_bytes: int
    tasks: int
    at_once: int


@dataclass(frozen=True)
class Plan:
    """How a run is cut.

    Attributes
    ----------
    starts : first row of each partition, and n at the end.
    block_starts : first partition of each Z-step block, and the number of partitions at the end.
    run_starts : first partition of each run whose edges one task writes, and as above.
    columns : columns of Z that a solve takes. length_columns : those that the S-step takes, which
        needs less for each. spilled : whether what there is of each edge is in scratch files in
        the loop.
    dtype : arithmetic of features and vectors. methods : neighbour search by modality.
    stages : memory and tasks by stage. client_bytes : the client's, beyond its idle size.
    disk : bytes of the run directory at its largest, by array.
    cached : whether the workers keep the features in memory.
    workers, memory_limit : what it was made for; the limit is in bytes, of one worker.
    idle_bytes : what a worker holds of imports and freed memory, beside its stages.
    degree : ends of edges a row as counted; None before they are.
    """

    starts: tuple[int, ...]
    run_starts: tuple[int, ...]
    block_starts: tuple[int, ...]
    columns: int
    length_columns: int
    spilled: bool
    dtype: np.dtype[Any]
    methods: Mapping[str, str]
    stages: tuple[StageMemory, ...]
    client_bytes: int
    disk: Mapping[str, int]
    cached: bool
    workers: int
    memory_limit: int
    idle_bytes: int
    degree: float | None

    @property
    def rows(self) -> int:
        """N."""
        return self.starts[-1]

    @property
    def partitions(self) -> range:
        """Numbers of the partitions."""
        return range(len(self.starts) - 1)

    @property
    def partition_rows(self) -> int:
        """Rows of a whole partition: the chunk of every array of the run."""
        return self.starts[1]

    def span(self, partition: int) -> tuple[int, int]:
        """First row and end of a partition."""
        return self.starts[partition], self.starts[partition + 1]

    @property
    def runs(self) -> list[range]:
        """The partitions of each run whose edges one task writes."""
        return [range(low, high) for low, high in pairwise(self.run_starts)]

    @property
    def blocks(self) -> range:
        """Numbers of the blocks."""
        return range(len(self.block_starts) - 1)

    def block_partitions(self, block: int) -> range:
        """The partitions of a block."""
        return range(self.block_starts[block], self.block_starts[block + 1])

    def block_span(self, block: int) -> tuple[int, int]:
        """First row and end of a block."""
        low, high = self.block_starts[block], self.block_starts[block + 1]
        return self.starts[low], self.starts[high]

    def column_groups(self, bits: int) -> list[slice]:
        """The columns (of ``bits``) that are solved together, group by group."""
        return _groups(bits, self.columns)

    def length_groups(self, bits: int) -> list[slice]:
        """The columns (of ``bits``) that the S-step takes together, group by group."""
        return _groups(bits, self.length_columns)

    @property
    def groups_at_once(self) -> int:
        """Groups of columns that are solved at the same time, each in a worker of its own."""
        return self.workers if len(self.blocks) == 1 else 1

    @property
    def passes(self) -> list[range]:
        """The partitions of each task of a pass over X."""
        count = len(self.partitions)
        if self.cached:
            return [range(p, p + 1) for p in self.partitions]
        wanted = -(-count // (_TASKS_A_WORKER * self.workers))
        size = min(wanted, _PARTITIONS_A_TASK)
        return [range(p, min(p + size, count)) for p in range(0, count, size)]

    @property
    def encoded_spans(self) -> list[tuple[int, int]]:
        """First row and end of each task of a pass after the loop.

        They follow from the number of rows alone, so that sums over tiles of rows round in one way
        for every partitioning.
        """
        size = max(_ENCODED_ROWS, -(-self.rows // (_ENCODED_TASKS * TILE)) * TILE)
        ends = [*range(0, self.rows, size), self.rows]
        return list(pairwise(ends))

    @property
    def disk_bytes(self) -> int:
        """The run directory at its largest."""
        return sum(self.disk.values())

    @property
    def fullest(self) -> StageMemory:
        """The stage that takes most of a worker."""
        return max(self.stages, key=lambda stage: stage.worker_bytes)

    @property
    def usable_bytes(self) -> int:
        """What a worker has for a stage; not positive where its imports take all."""
        return int(self.memory_limit * _USABLE) - self.idle_bytes


def _groups(bits: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, bits)) for start in range(0, bits, width)]
