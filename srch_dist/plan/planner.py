"""Partitions, blocks and passes, worked out from shapes and options before any work.

The plan decides how work is cut, never what is computed: codes do not depend on it. Its bytes are
those of `srch_dist.plan.feature_memory`; time and traffic are in `srch_dist.plan.cost_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from srch_dist.config.options import TrainConfig
from srch_dist.errors import PlanError
from srch_dist.kernels.clusters import routing_clusters
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
from srch_dist.plan.memory_model import MIB, cache_bytes, imported_bytes
from srch_dist.plan.partitioning import cut_edges, cut_solve, default_partition, search_method
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.run_plan import _USABLE, Plan, StageMemory

# Up to this many feature values (512 MiB) training is done in float64.
_DOUBLE_VALUES = 1 << 26
# Resident memory of an idle worker with its imports, and what its allocator keeps of what was
# freed (see `cluster.ALLOCATOR`).
_IDLE_BYTES = (220 + 80) * MIB
# Features are kept in memory only where a worker stays below this share: Dask starts to spill at
# 0.6, and partitions are not spread quite evenly.
_CACHE_SHARE = 0.45


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
    sizes = ProblemSize(
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


def _cached_partitions(sizes: ProblemSize, workers: int, memory_limit: int, idle: int) -> int:
    """Partitions of X that each worker keeps in memory: all of its share, or none."""
    if sizes.config.cache == "off":
        return 0
    share = replace(sizes, cached=-(-sizes.parts // workers))
    steps = max(solve_bytes(sizes), length_bytes(sizes), feature_memory.code_bytes(share))
    whole = idle + cache_bytes(share) + steps
    return share.cached if whole <= _CACHE_SHARE * memory_limit else 0


def _stages(plan: Plan, sizes: ProblemSize, restarts: bool) -> tuple[StageMemory, ...]:
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
    return tuple(StageMemory(*stage, min(stage[2], plan.workers)) for stage in (*before, *later))
