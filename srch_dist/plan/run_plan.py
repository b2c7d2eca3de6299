"""`Plan`: partitions, blocks, column groups and passes of a run; its memory and disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from srch_dist.kernels.rbf import TILE
from srch_dist.plan.memory_model import allowed_bytes
from srch_dist.plan.problem import groups_at_once

# Maximum number of partitions per task of a pass. With several partitions, a task can read the next
# partition ahead.
_PARTITIONS_A_TASK = 8
# Minimum number of tasks of a pass per worker, so that workers finish at about the same time.
_TASKS_A_WORKER = 4
# Minimum number of rows per task of a pass after the loop: whole tiles.
_ENCODED_ROWS = 8 * TILE
# Maximum number of tasks of a pass after the loop.
_ENCODED_TASKS = 256
# Bytes of packed codes that one task writes in store order.
STORE_ORDER_BYTES = 32 << 20


@dataclass(frozen=True)
class StageMemory:
    """Projected memory and number of tasks of one stage.

    Attributes
    ----------
    name : name of the stage, as the plan shows and saves it.
    projected_bytes : projected memory of a worker, maximum over the workers.
    tasks : number of tasks in the largest task graph of the stage.
    at_once : number of tasks that run at the same time.
    """

    name: str
    projected_bytes: int
    tasks: int
    at_once: int


@dataclass(frozen=True)
class Plan:
    """Partitioning of a run, with the memory and disk that the run needs.

    Attributes
    ----------
    starts : first row of each partition, then n.
    run_starts : first partition of each sequence ("run") of partitions, then the number of
        partitions. One task writes the edges of a sequence.
    block_starts : first partition of each block of rows in the Z-step, then the number of
        partitions.
    columns : number of columns of Z in one solve.
    length_columns : number of columns of Z in one pass of the S-step, at least ``columns``. A
        column needs less memory in the S-step than in the Z-step.
    spilled : whether the loop reads the graph from scratch files.
    dtype : type of features and scores in training.
    methods : neighbour search by modality: "exact", "pynndescent" or "partitioned".
    stages : memory and tasks by stage, in the order of the run.
    client_bytes : projected memory of the client beyond its idle size, in bytes.
    disk : size in bytes by array, at the time when the run directory is largest.
    cached : whether the workers keep the features in memory.
    workers : number of worker processes for which the work is partitioned.
    memory_limit : memory limit of one worker, in bytes.
    reserved_bytes : reserved memory of one worker, in bytes.
    degree : mean number of directed edges per row; None until the edges are counted.
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
    reserved_bytes: int
    degree: float | None

    @property
    def rows(self) -> int:
        """Number n of rows to train on."""
        return self.starts[-1]

    @property
    def partitions(self) -> range:
        """Numbers of the partitions."""
        return range(len(self.starts) - 1)

    @property
    def partition_rows(self) -> int:
        """Number of rows of a partition; also the chunk length of every array of the run."""
        return self.starts[1]

    def span(self, partition: int) -> tuple[int, int]:
        """Return the row range (first, end) of a partition."""
        return self.starts[partition], self.starts[partition + 1]

    @property
    def runs(self) -> list[range]:
        """Sequences of partitions, as ranges; one task writes the edges of a sequence."""
        return [range(low, high) for low, high in pairwise(self.run_starts)]

    @property
    def blocks(self) -> range:
        """Numbers of the Z-step blocks."""
        return range(len(self.block_starts) - 1)

    def block_partitions(self, block: int) -> range:
        """Return the partitions of a block."""
        return range(self.block_starts[block], self.block_starts[block + 1])

    def block_span(self, block: int) -> tuple[int, int]:
        """Return the row range (first, end) of a block."""
        low, high = self.block_starts[block], self.block_starts[block + 1]
        return self.starts[low], self.starts[high]

    def column_groups(self, bits: int) -> list[slice]:
        """Split the ``bits`` columns of Z into the groups that the Z-step solves together."""
        return _groups(bits, self.columns)

    def length_groups(self, bits: int) -> list[slice]:
        """Split the ``bits`` columns of Z into the groups that the S-step reads together."""
        return _groups(bits, self.length_columns)

    @property
    def groups_at_once(self) -> int:
        """Number of column groups solved at the same time; see `problem.groups_at_once`."""
        return groups_at_once(len(self.blocks), self.workers)

    @property
    def passes(self) -> list[range]:
        """Range of partition numbers of each task in a pass over the features X."""
        count = len(self.partitions)
        if self.cached:
            return [range(p, p + 1) for p in self.partitions]
        wanted = -(-count // (_TASKS_A_WORKER * self.workers))
        size = min(wanted, _PARTITIONS_A_TASK)
        return [range(p, min(p + size, count)) for p in range(0, count, size)]

    @property
    def encoded_spans(self) -> list[tuple[int, int]]:
        """Row range (first, end) of each task in the passes for encoders and final codes.

        The ranges depend on the number of rows alone, so that sums round the same way with every
        partitioning.
        """
        size = max(_ENCODED_ROWS, -(-self.rows // (_ENCODED_TASKS * TILE)) * TILE)
        ends = [*range(0, self.rows, size), self.rows]
        return list(pairwise(ends))

    @property
    def disk_bytes(self) -> int:
        """Bytes of the run directory at its largest size."""
        return sum(self.disk.values())

    @property
    def fullest(self) -> StageMemory:
        """The stage with the largest projected memory."""
        return max(self.stages, key=lambda stage: stage.projected_bytes)

    @property
    def allowed_bytes(self) -> int:
        """Allowed memory of one worker; see `memory_model.allowed_bytes`."""
        return allowed_bytes(self.memory_limit, self.reserved_bytes)


def _groups(bits: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, bits)) for start in range(0, bits, width)]
