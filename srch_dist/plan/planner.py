"""Partitions, blocks and passes, worked out from shapes and options before any work.

The plan decides how work is cut, never what is computed: codes do not depend on it. Its bytes are
those of `srch_dist.plan.feature_memory`; time and traffic are in `srch_dist.plan.cost_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from srch_dist.config.loading import TrainConfig
from srch_dist.errors import PlanError
from srch_dist.kernels.clusters import routing_clusters
from srch_dist.kernels.rbf import TILE
from srch_dist.plan import feature_memory
from srch_dist.plan.disk import disk_bytes
from srch_dist.plan.graph_memory import (
    COMPILED_BYTES,
    graph_bytes,
    kept_bytes,
    length_bytes,
    neighbour_bytes,
    solve_bytes,
)
from srch_dist.plan.memory_model import MIB, Sizes, cache_bytes, imported_bytes
from srch_dist.plan.partitioning import cut_edges, cut_solve, default_partition, search_method

# Up to this many feature values (512 MiB) training is done in float64.
_DOUBLE_VALUES = 1 << 26
# Resident memory of an idle worker with its imports, and what its allocator keeps of what was
# freed (see `cluster.ALLOCATOR`).
_IDLE_BYTES = (220 + 80) * MIB
# A worker spills and pauses as it nears its limit; tasks are planned to stay below this share.
_USABLE = 0.8
# Features are kept in memory only where a worker stays below this share: Dask starts to spill at
# 0.6, and partitions are not spread quite evenly.
_CACHE_SHARE = 0.45
# A task of a pass takes several partitions, so that it can read ahead, but not so many that
# workers run out of tasks at unequal times.
_PARTITIONS_A_TASK, _TASKS_A_WORKER = 8, 4
# Rows of a task of a pass after the loop, at least (whole tiles), and such tasks, at most.
_ENCODED_ROWS, _ENCODED_TASKS = 8 * TILE, 256


@dataclass(frozen=True)
class Stage:
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
    stages: tuple[Stage, ...]
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
    def fullest(self) -> Stage:
        """The stage that takes most of a worker."""
        return max(self.stages, key=lambda stage: stage.worker_bytes)

    @property
    def usable_bytes(self) -> int:
        """What a worker has for a stage; not positive where its imports take all."""
        return int(self.memory_limit * _USABLE) - self.idle_bytes


def _groups(bits: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, bits)) for start in range(0, bits, width)]


def make_plan(
    rows: int, dims: Mapping[str, int], config: TrainConfig, workers: int, memory_limit: int
) -> Plan:
    """Cut n rows of features for workers of ``memory_limit`` bytes each; see `draft_plan`.

    Raises
    ------
    PlanError : a stage that cannot fit, with both numbers.
    """
    plan = draft_plan(rows, dims, config, workers, memory_limit)
    check_memory(plan)
    return plan


def draft_plan(
    rows: int,
    dims: Mapping[str, int],
    config: TrainConfig,
    workers: int,
    memory_limit: int,
    restarts: bool = True,
    degree: float | None = None,
) -> Plan:
    """`make_plan` without its refusal, to be shown before it is judged.

    ``restarts`` says whether the workers are started anew once neighbours are found, and so
    lose what compiling NN-descent took; ``degree`` is the number of ends of edges a row where they
    have been counted.
    """
    values = rows * sum(dims.values())
    double = config.precision == "float64" or (
        config.precision == "auto" and values <= _DOUBLE_VALUES
    )
    dtype: np.dtype[Any] = np.dtype(np.float64) if double else np.dtype(np.float32)
    size = config.partition_rows or default_partition(sum(dims.values()) * dtype.itemsize)
    starts = (*range(0, rows, size), rows)
    methods = {g: search_method(config.graph, rows, d) for g, d in dims.items()}
    idle = _IDLE_BYTES + imported_bytes(rows, methods, config)
    usable = int(memory_limit * _USABLE) - idle
    sizes = Sizes(
        rows, min(size, rows), rows, 0, dims, dtype.itemsize, methods, 0, config, workers=workers
    )
    later = usable - compiled_bytes(methods, restarts)
    runs = cut_edges(starts, sizes, workers, later)
    sizes = replace(sizes, degree=degree)
    spare = int(memory_limit * (1 - _USABLE))
    cuts, sizes = cut_solve(starts, sizes, config, workers, later, spare)
    sizes = replace(sizes, cached=_cached_partitions(sizes, workers, memory_limit, idle))
    plan = Plan(
        starts=starts,
        run_starts=runs,
        block_starts=cuts,
        columns=sizes.columns,
        length_columns=sizes.length_columns,
        spilled=sizes.spilled,
        dtype=dtype,
        methods=methods,
        stages=(),
        client_bytes=feature_memory.client_bytes(sizes),
        disk=disk_bytes(sizes),
        cached=sizes.cached > 0,
        workers=workers,
        memory_limit=memory_limit,
        idle_bytes=idle,
        degree=degree,
    )
    return replace(plan, stages=_stages(plan, sizes, restarts))


def compiled_bytes(methods: Mapping[str, str], restarts: bool) -> int:
    """What a worker holds of NN-descent once its neighbours are found; see `draft_plan`."""
    descends = {"pynndescent", "partitioned"} & set(methods.values())
    return COMPILED_BYTES if descends and not restarts else 0


def check_memory(plan: Plan) -> None:
    """Refuse a plan whose fullest stage does not fit a worker.

    Raises
    ------
    PlanError : with the stage and both numbers.
    """
    worst, usable = plan.fullest, plan.usable_bytes
    if worst.worker_bytes > usable:
        raise PlanError(
            f"the {worst.name} stage needs {worst.worker_bytes / MIB:.0f} MiB in a worker, but "
            f"of its {plan.memory_limit / MIB:.0f} MiB only {max(usable, 0) / MIB:.0f} MiB are "
            "usable; give workers more memory (--memory-limit), or use more of them"
        )


def check_disk(plan: Plan, folder: str, free: int, stored: int = 0) -> None:
    """Refuse a plan whose arrays do not fit the ``free`` bytes of the disk of ``folder``.

    ``stored`` bytes of them are there already, of an earlier try or a run that is shared.

    Raises
    ------
    PlanError : with both numbers and the largest array.
    """
    if plan.disk_bytes > free + stored:
        largest = max(plan.disk, key=lambda name: plan.disk[name])
        raise PlanError(
            f"the run needs {plan.disk_bytes / MIB:.0f} MiB of disk, most of it for {largest} "
            f"({plan.disk[largest] / MIB:.0f} MiB), but {folder} has {free / MIB:.0f} MiB free"
            f"{f' beside {stored / MIB:.0f} MiB that are there' if stored >= MIB else ''}; free "
            "some, or name a run directory on another disk (--out)"
        )


def _cached_partitions(sizes: Sizes, workers: int, memory_limit: int, idle: int) -> int:
    """Partitions of X that each worker keeps in memory: all of its share, or none."""
    if sizes.config.cache == "off":
        return 0
    share = replace(sizes, cached=-(-sizes.parts // workers))
    steps = max(solve_bytes(sizes), length_bytes(sizes), feature_memory.code_bytes(share))
    whole = idle + cache_bytes(share) + steps
    return share.cached if whole <= _CACHE_SHARE * memory_limit else 0


def _stages(plan: Plan, sizes: Sizes, restarts: bool) -> tuple[Stage, ...]:
    """Every stage with its memory and tasks."""
    partitions, blocks = len(plan.partitions), len(plan.blocks)
    clusters = routing_clusters(sizes.rows, sizes.config.graph.cluster_rows)
    widths = {"exact": partitions, "pynndescent": 1, "partitioned": max(partitions, clusters)}
    searches = sum(widths[method] for method in plan.methods.values())
    longest = max(plan.starts[run.stop] - plan.starts[run.start] for run in plan.runs)
    kept = kept_bytes(sizes)
    solves = len(plan.column_groups(sizes.config.loop_bits)) if blocks == 1 else blocks
    before = (
        ("features", feature_memory.feature_bytes(sizes), partitions),
        ("neighbours", neighbour_bytes(sizes), searches),
    )
    after = (
        ("graph", graph_bytes(sizes, longest), len(plan.runs)),
        ("Z-step", solve_bytes(sizes) + cache_bytes(sizes), solves),
        ("S-step", length_bytes(sizes), blocks),
        ("B-step", feature_memory.code_bytes(sizes) + kept, len(plan.passes)),
        ("model", feature_memory.model_bytes(sizes), partitions),
    )
    held = compiled_bytes(plan.methods, restarts)
    later = ((name, held + size, tasks) for name, size, tasks in after)
    return tuple(Stage(*stage, min(stage[2], plan.workers)) for stage in (*before, *later))
