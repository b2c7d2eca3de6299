"""Partitions, blocks and passes, worked out from shapes and options before any work.

The plan decides how work is cut, never what is computed: codes do not depend on it. Its bytes are
those of `srch_dist.footprints`; what it costs in time and traffic is in `srch_dist.forecast`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from srch_dist import footprints
from srch_dist.config import GraphConfig, TrainConfig
from srch_dist.errors import ConfigError, PlanError
from srch_dist.footprints import MIB, Sizes, solve_bytes
from srch_dist.kernels.clusters import routing_clusters

_PARTITION_BYTES = 32 * MIB
# Up to this many feature values (512 MiB) training is done in float64.
_DOUBLE_VALUES = 1 << 26
# Exact search up to this many multiplications (some 10 s on two cores): below it, the start-up
# of NN-descent (compilation, about 22 s a process) costs more than it saves.
_EXACT_PRODUCTS = 5e11
# One index up to this many feature values (512 MiB in float32); beyond, one a cluster of rows.
_INDEX_VALUES = 1 << 27
# Resident memory of an idle worker with its imports, and what its allocator keeps of what was
# freed (see `cluster.ALLOCATOR`).
_IDLE_BYTES = (220 + 80) * MIB
# Narrower groups of columns read the graph more often than they save memory.
_LEAST_COLUMNS = 8
# A worker spills and pauses as it nears its limit; tasks are planned to stay below this share.
_USABLE = 0.8
# Features are kept in memory only where a worker stays below this share: Dask starts to spill at
# 0.6, and partitions are not spread quite evenly.
_CACHE_SHARE = 0.45
# A task of a pass takes several partitions, so that it can read ahead, but not so many that
# workers run out of tasks at unequal times.
_PARTITIONS_A_TASK, _TASKS_A_WORKER = 8, 4


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
    columns : columns of Z that are solved at a time.
    dtype : arithmetic of features and vectors. methods : neighbour search by modality.
    stages : memory and tasks by stage. client_bytes : the client's, beyond its idle size.
    disk : bytes of the run directory at its largest, by array.
    cached : whether the workers keep the features in memory.
    workers, memory_limit : what it was made for; the limit is in bytes, of one worker.
    idle_bytes : what a worker holds of imports and freed memory, beside its stages.
    """

    starts: tuple[int, ...]
    block_starts: tuple[int, ...]
    columns: int
    dtype: np.dtype[Any]
    methods: Mapping[str, str]
    stages: tuple[Stage, ...]
    client_bytes: int
    disk: Mapping[str, int]
    cached: bool
    workers: int
    memory_limit: int
    idle_bytes: int

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
        starts = range(0, bits, self.columns)
        return [slice(start, min(start + self.columns, bits)) for start in starts]

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
    rows: int, dims: Mapping[str, int], config: TrainConfig, workers: int, memory_limit: int
) -> Plan:
    """`make_plan` without its refusal, to be shown before it is judged."""
    values = rows * sum(dims.values())
    double = config.precision == "float64" or (
        config.precision == "auto" and values <= _DOUBLE_VALUES
    )
    dtype: np.dtype[Any] = np.dtype(np.float64) if double else np.dtype(np.float32)
    size = config.partition_rows or _default_partition(sum(dims.values()) * dtype.itemsize)
    starts = (*range(0, rows, size), rows)
    methods = {g: _search_method(config.graph, rows, d) for g, d in dims.items()}
    idle = _IDLE_BYTES + footprints.imported_bytes(rows, methods, config)
    usable = int(memory_limit * _USABLE) - idle
    cuts, columns = _cut_solve(starts, dims, config, workers, usable)
    resident = _resident_rows(starts, cuts, workers)
    sizes = Sizes(
        rows, min(size, rows), resident, columns, dims, dtype.itemsize, methods, 0, config
    )
    sizes = replace(sizes, cached=_cached_partitions(sizes, workers, memory_limit, idle))
    plan = Plan(
        starts=starts,
        block_starts=cuts,
        columns=columns,
        dtype=dtype,
        methods=methods,
        stages=(),
        client_bytes=footprints.client_bytes(sizes),
        disk=footprints.disk_bytes(sizes),
        cached=sizes.cached > 0,
        workers=workers,
        memory_limit=memory_limit,
        idle_bytes=idle,
    )
    return replace(plan, stages=_stages(plan, sizes))


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


def check_disk(plan: Plan, folder: str, free: int) -> None:
    """Refuse a plan whose arrays do not fit the ``free`` bytes of the disk of ``folder``.

    Raises
    ------
    PlanError : with both numbers and the largest array.
    """
    if plan.disk_bytes > free:
        largest = max(plan.disk, key=lambda name: plan.disk[name])
        raise PlanError(
            f"the run needs {plan.disk_bytes / MIB:.0f} MiB of disk, most of it for {largest} "
            f"({plan.disk[largest] / MIB:.0f} MiB), but {folder} has {free / MIB:.0f} MiB free; "
            "free some, or name a run directory on another disk (--out)"
        )


def _cut_solve(
    starts: tuple[int, ...],
    dims: Mapping[str, int],
    config: TrainConfig,
    workers: int,
    usable: int,
) -> tuple[tuple[int, ...], int]:
    """Blocks of the Z-step and columns a group: the fewest blocks, then the widest groups.

    More blocks than workers would not help, since their graphs stay in memory.
    """
    partitions = len(starts) - 1
    least = min(_LEAST_COLUMNS, config.loop_bits)
    for blocks in [config.blocks] if config.blocks else range(1, workers + 1):
        cuts = _cut(partitions, min(blocks, partitions))
        columns = config.loop_bits
        resident = _resident_rows(starts, cuts, workers)
        if solve_bytes(resident, columns, dims, config) <= usable:
            break
    while columns > least and solve_bytes(resident, columns, dims, config) > usable:
        columns = max(least, columns // 2)
    return cuts, min(config.columns or columns, config.loop_bits)


def _cut(partitions: int, blocks: int) -> tuple[int, ...]:
    """First partition of each of ``blocks`` even runs, and the number of partitions."""
    return tuple(round(block * partitions / blocks) for block in range(blocks + 1))


def _resident_rows(starts: tuple[int, ...], cuts: tuple[int, ...], workers: int) -> int:
    """Rows whose graph and vectors the fullest worker holds in the Z-step."""
    largest = max(starts[stop] - starts[start] for start, stop in pairwise(cuts))
    return largest * -(-(len(cuts) - 1) // workers)


def _default_partition(width: int) -> int:
    """Rows of a partition of about 32 MiB, a multiple of 1024 where it is that large."""
    rows = max(1, _PARTITION_BYTES // width)
    return rows // 1024 * 1024 if rows >= 1024 else rows


def _search_method(graph: GraphConfig, rows: int, dims: int) -> str:
    method = graph.method
    if method == "auto":
        if float(rows) ** 2 * dims <= _EXACT_PRODUCTS:
            method = "exact"
        else:
            method = "pynndescent" if rows * dims <= _INDEX_VALUES else "partitioned"
    if method == "partitioned" and graph.cluster_rows < 4 * (graph.k + 1):
        raise ConfigError(
            f"graph.cluster_rows is {graph.cluster_rows}, but with graph.k = {graph.k} clusters "
            f"have to be of {4 * (graph.k + 1)} rows at least; raise it"
        )
    return method


def _cached_partitions(sizes: Sizes, workers: int, memory_limit: int, idle: int) -> int:
    """Partitions of X that each worker keeps in memory: all of its share, or none."""
    if sizes.config.cache == "off":
        return 0
    share = replace(sizes, cached=-(-sizes.parts // workers))
    steps = solve_bytes(sizes.resident, sizes.columns, sizes.dims, sizes.config)
    whole = idle + footprints.cache_bytes(share) + max(steps, footprints.code_bytes(share))
    return share.cached if whole <= _CACHE_SHARE * memory_limit else 0


def _stages(plan: Plan, sizes: Sizes) -> tuple[Stage, ...]:
    """Every stage with its memory and tasks."""
    partitions, blocks = len(plan.partitions), len(plan.blocks)
    clusters = routing_clusters(sizes.rows, sizes.config.graph.cluster_rows)
    widths = {"exact": partitions, "pynndescent": 1, "partitioned": max(partitions, clusters)}
    searches = sum(widths[method] for method in plan.methods.values())
    kept = footprints.kept_bytes(sizes)
    cached = footprints.cache_bytes(sizes)
    solve = solve_bytes(sizes.resident, sizes.columns, sizes.dims, sizes.config) + cached
    found = (
        ("features", footprints.feature_bytes(sizes), partitions),
        ("neighbours", footprints.neighbour_bytes(sizes), searches),
        ("graph", footprints.graph_bytes(sizes), blocks),
        ("Z-step", solve, blocks),
        ("S-step", footprints.length_bytes(sizes), blocks),
        ("B-step", footprints.code_bytes(sizes) + kept, len(plan.passes)),
        ("model", footprints.model_bytes(sizes), partitions),
    )
    return tuple(Stage(*stage, min(stage[2], plan.workers)) for stage in found)
