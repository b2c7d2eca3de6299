"""Make the plan of a run from shapes and options, and refuse a plan that does not fit.

The plan decides how work is partitioned, never what is computed: codes do not depend on the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, PlanError
from srch_dist.kernels.clusters import search_clusters
from srch_dist.plan.disk import disk_bytes
from srch_dist.plan.feature_memory import b_step_bytes, client_bytes, feature_bytes, model_bytes
from srch_dist.plan.graph_memory import edge_bytes, persisted_bytes, s_step_bytes, z_step_bytes
from srch_dist.plan.memory_model import (
    ALLOWED_SHARE,
    MIB,
    allowed_bytes,
    cache_bytes,
    headroom_bytes,
    reserved_bytes,
)
from srch_dist.plan.partitioning import (
    PARTITION_BYTES,
    STORED_PARTITION_BYTES,
    cut_edges,
    cut_solve,
    default_partition,
    search_method,
)
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.run_plan import Plan, StageMemory
from srch_dist.plan.search_memory import COMPILED_BYTES, neighbour_bytes
from srch_dist.runtime.cluster import Cluster

# "auto" trains in float64 up to this number of feature values (512 MiB).
_DOUBLE_VALUES = 1 << 26
# Share of the memory limit that a worker with cached features may use. Dask spills above 0.6, and
# some workers get more partitions than others.
_CACHE_SHARE = 0.45
# Maximum partitions of a run: each partition is a task of every pass and a file of every array.
_MOST_PARTITIONS = 1 << 21


def draft_plan(
    rows: int,
    dims: Mapping[str, int],
    config: TrainConfig,
    cluster: Cluster,
    degree: float | None = None,
) -> Plan:
    """Plan a run, even if it does not fit; `check_memory` and `check_disk` refuse such plans.

    Parameters
    ----------
    rows : number n of rows to train on.
    dims : d_g, dimensions by modality.
    config : options of the run.
    cluster : the workers. If the workers can restart, a restart after the neighbour search frees
        the compiled code of NN-descent.
    degree : mean number of directed edges per row; None until the edges are counted.

    Raises
    ------
    ConfigError : a search is partitioned, and ``graph.cluster_rows`` is too small for ``graph.k``;
        or there are too many partitions.
    """
    width = sum(dims.values()) * _feature_dtype(rows, dims, config).itemsize
    if config.partition_rows is not None:
        return _draft(rows, dims, config, cluster, degree)
    for size in STORED_PARTITION_BYTES if config.in_store else (PARTITION_BYTES,):
        chosen = replace(config, partition_rows=default_partition(width, size))
        plan = _draft(rows, dims, chosen, cluster, degree)
        if plan.fullest.projected_bytes <= plan.allowed_bytes:
            break
    return plan


def _draft(
    rows: int,
    dims: Mapping[str, int],
    config: TrainConfig,
    cluster: Cluster,
    degree: float | None,
) -> Plan:
    """Plan a run whose ``partition_rows`` are chosen."""
    dtype = _feature_dtype(rows, dims, config)
    sizes = _problem_size(rows, dims, config, dtype.itemsize, cluster.workers)
    _refuse_many_partitions(sizes)
    starts = (*range(0, rows, sizes.partition_rows), rows)
    limit, reserved = cluster.memory_limit, reserved_bytes(rows, config)
    compiled = _compiled_bytes(sizes.methods, cluster)
    allowed = allowed_bytes(limit, reserved) - compiled
    runs = cut_edges(starts, sizes, allowed)
    sizes = replace(sizes, degree=degree)
    cuts, sizes = cut_solve(starts, sizes, allowed, headroom_bytes(limit))
    sizes = replace(sizes, cached_partitions=_cached_partitions(sizes, limit, reserved))
    plan = Plan(
        starts=starts,
        run_starts=runs,
        block_starts=cuts,
        columns=sizes.columns,
        length_columns=sizes.length_columns,
        spilled=sizes.spilled,
        dtype=dtype,
        methods=sizes.methods,
        stages=(),
        client_bytes=client_bytes(sizes),
        disk=disk_bytes(sizes),
        cached=sizes.cached_partitions > 0,
        workers=cluster.workers,
        memory_limit=limit,
        reserved_bytes=reserved,
        degree=degree,
    )
    return replace(plan, stages=_stages(plan, sizes, compiled))


def check_memory(plan: Plan) -> None:
    """Refuse a plan with a stage whose projected memory exceeds the allowed memory.

    Raises
    ------
    PlanError : a stage does not fit; the message has the stage and both numbers.
    """
    worst, allowed = plan.fullest, plan.allowed_bytes
    if worst.projected_bytes > allowed:
        raise PlanError(
            f"the {worst.name} stage needs {worst.projected_bytes / MIB:.0f} MiB in a worker, but "
            f"only {max(allowed, 0) / MIB:.0f} MiB are allowed: {ALLOWED_SHARE:.0%} of the "
            f"{plan.memory_limit / MIB:.0f} MiB limit of the worker, minus the "
            f"{plan.reserved_bytes / MIB:.0f} MiB that an idle worker uses. Give workers more "
            "memory (--memory-limit), or use more workers."
        )


def check_disk(plan: Plan, folder: str, free: int, stored: int = 0) -> None:
    """Refuse a plan whose arrays do not fit a disk.

    Parameters
    ----------
    plan : plan of the run.
    folder : folder of the run, for the message.
    free : free bytes on the disk of the folder.
    stored : bytes of the run that are on disk already, from an interrupted or reused run.

    Raises
    ------
    PlanError : the arrays do not fit; the message has both numbers and the largest array.
    """
    if plan.disk_bytes > free + stored:
        largest = max(plan.disk, key=lambda name: plan.disk[name])
        beside = f" beside {stored / MIB:.0f} MiB of this run" if stored >= MIB else ""
        raise PlanError(
            f"the run needs {plan.disk_bytes / MIB:.0f} MiB of disk, most of it for {largest} "
            f"({plan.disk[largest] / MIB:.0f} MiB), but {folder} has {free / MIB:.0f} MiB "
            f"free{beside}. Free disk space, or choose a run directory on another disk (--out)."
        )


def _feature_dtype(rows: int, dims: Mapping[str, int], config: TrainConfig) -> np.dtype[Any]:
    """Choose the dtype of features and scores; "auto" means float64 up to 2²⁶ feature values."""
    few = rows * sum(dims.values()) <= _DOUBLE_VALUES
    double = config.precision == "float64" or (config.precision == "auto" and few)
    return np.dtype(np.float64) if double else np.dtype(np.float32)


def _problem_size(
    rows: int, dims: Mapping[str, int], config: TrainConfig, itemsize: int, workers: int
) -> ProblemSize:
    """Make the problem size of a run before the split into blocks: one block of all rows."""
    size = config.partition_rows
    assert size is not None
    return ProblemSize(
        rows=rows,
        partition_rows=min(size, rows),
        dims=dims,
        itemsize=itemsize,
        methods={g: search_method(config.graph, rows, d) for g, d in dims.items()},
        config=config,
        workers=workers,
        resident_rows=rows,
    )


def _refuse_many_partitions(sizes: ProblemSize) -> None:
    if sizes.partitions > _MOST_PARTITIONS:
        raise ConfigError(
            f"{sizes.rows} rows in partitions of {sizes.partition_rows} rows make "
            f"{sizes.partitions} partitions, expected at most {_MOST_PARTITIONS}. Train on fewer "
            "rows, or raise partition_rows."
        )


def _compiled_bytes(methods: Mapping[str, str], cluster: Cluster) -> int:
    """Return bytes of compiled NN-descent code in a worker after the search; 0 if it restarts."""
    descends = "pynndescent" in methods.values()
    return COMPILED_BYTES if descends and not cluster.restarts else 0


def _cached_partitions(sizes: ProblemSize, memory_limit: int, reserved: int) -> int:
    """Return how many partitions of X a worker caches: all partitions of its tasks, or 0."""
    if sizes.config.cache == "off":
        return 0
    cached = replace(sizes, cached_partitions=-(-sizes.partitions // sizes.workers))
    steps = max(z_step_bytes(sizes), s_step_bytes(sizes), b_step_bytes(cached))
    needed = reserved + cache_bytes(cached) + steps
    return cached.cached_partitions if needed <= _CACHE_SHARE * memory_limit else 0


def _stages(plan: Plan, sizes: ProblemSize, compiled: int) -> tuple[StageMemory, ...]:
    """List memory and tasks of every stage.

    ``compiled`` is the memory in bytes of compiled code that a worker keeps after the search.
    """
    partitions, blocks = len(plan.partitions), len(plan.blocks)
    clusters = search_clusters(sizes.rows, sizes.config.graph.cluster_rows)
    widths = {"exact": partitions, "pynndescent": 1, "partitioned": max(partitions, clusters)}
    searches = sum(widths[method] for method in plan.methods.values())
    run_rows = max(plan.starts[run.stop] - plan.starts[run.start] for run in plan.runs)
    solves = len(plan.column_groups(sizes.config.embedding_columns)) if blocks == 1 else blocks
    before = (
        ("features", feature_bytes(sizes), partitions),
        ("neighbours", neighbour_bytes(sizes), searches),
    )
    after = (
        ("graph", edge_bytes(sizes, run_rows), len(plan.runs)),
        ("Z-step", z_step_bytes(sizes) + cache_bytes(sizes), solves),
        ("S-step", s_step_bytes(sizes), blocks),
        ("B-step", b_step_bytes(sizes) + persisted_bytes(sizes), len(plan.passes)),
        ("model", model_bytes(sizes), partitions),
    )
    later = ((name, compiled + size, tasks) for name, size, tasks in after)
    return tuple(StageMemory(*stage, min(stage[2], plan.workers)) for stage in (*before, *later))
