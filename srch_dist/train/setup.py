"""Start or resume a run: choose rows, plan the work, verify what an earlier attempt committed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from srch_dist.algorithm.job import Job
from srch_dist.config.options import TrainConfig
from srch_dist.config.versions import current_versions
from srch_dist.plan.cost_model import Forecast, forecast
from srch_dist.plan.planner import check_disk, check_memory, draft_plan
from srch_dist.plan.rates import Rates
from srch_dist.plan.run_plan import Plan
from srch_dist.plan.table import plan_record, plan_summary, plan_table
from srch_dist.runtime.cluster import Cluster
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import stored_bytes
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.hold import LockedRun
from srch_dist.train.resume import (
    data_record,
    refuse_other_data,
    verify_committed,
    warn_other_versions,
)
from srch_dist.train.reuse import (
    reusable_folders,
    reuse_loop,
    reuse_stages,
    reused_partition_rows,
)
from srch_dist.train.rows import choose_rows, warn_unused_rows, write_rows


@dataclasses.dataclass(frozen=True)
class SharedResources:
    """What the runs of a sweep share: the cluster, and results of other runs.

    Attributes
    ----------
    cluster : the connected cluster.
    base : run from `prepare_run` whose features and graph are reused. None means that the run
        builds its own features and graph.
    loop : finished run whose loop is reused. None means that the run learns its own codes.
    """

    cluster: Cluster
    base: RunDirectory | None = None
    loop: RunDirectory | None = None


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """A run whose stages can start.

    Attributes
    ----------
    job : the job, with the first plan. After the graph is built, `replan` returns a job with a new
        plan.
    store : the feature store of the data.
    shared : the cluster and the runs to reuse; see `SharedResources`.
    held_out : number of rows held out as queries.
    """

    job: Job
    store: FeatureStore
    shared: SharedResources
    held_out: int


def start_or_resume(
    store: FeatureStore,
    locked: LockedRun,
    config: TrainConfig,
    shared: SharedResources,
    progress: Progress,
) -> PreparedRun:
    """Choose the rows and plan the work; for a resumed run, verify the data and checksums.

    Raises
    ------
    InputError : too few rows, or the run was started with other data.
    PlanError : the run does not fit in memory or on disk.
    StorageError : a stored array is damaged.
    """
    run, base = locked.run, shared.base
    rows, queries = choose_rows(store, config)
    dims = ", ".join(f"{g} {d}" for g, d in store.modalities.items())
    progress.note(
        f"data: {len(rows)} pairs of {store.path}: {dims}; {config.bits} bits, preset "
        f"{config.preset}; run {run.path}"
    )
    warn_unused_rows(store, rows, queries, config, progress)
    stages = run.stages(config)
    record = stages.find("rows")
    if record is not None:
        refuse_other_data(run, store, record.values)
        warn_other_versions(record.values, progress)
        # The stored arrays keep their partitioning, even if the options now ask for another one.
        config = dataclasses.replace(config, partition_rows=record.values["partition_rows"])
    elif base is not None:
        config = dataclasses.replace(config, partition_rows=reused_partition_rows(base))
    plan = _plan_run(len(rows), store, run, config, shared, progress)
    # A later plan of this run may have room for larger partitions than those that are stored.
    config = dataclasses.replace(config, partition_rows=plan.partition_rows)
    if record is None:
        write_rows(run, plan, rows, queries)
        values = {"partition_rows": plan.partition_rows, "versions": current_versions()}
        stages.commit("rows", {**data_record(store), **values}, {})
    if base is not None:
        reuse_stages(base, run, config)
    if shared.loop is not None and not run.committed():
        reuse_loop(shared.loop, run, config)
        progress.note(f"loop: reused from {shared.loop.path}")
    job = Job(run, plan, config, tuple(store.modalities), progress, locked.check_lock)
    if record is not None:
        verify_committed(job)
    return PreparedRun(job, store, shared, len(queries))


def replan(prepared: PreparedRun, degree: float) -> Job:
    """Plan the loop and the model stage again, with the measured size of the graph; save the plan.

    ``degree`` is the mean number of edges per row. It replaces the upper bound of the first plan.
    """
    job = prepared.job
    plan, costs = _draft(job.plan.rows, prepared.store, job.config, prepared.shared.cluster, degree)
    job.run.write_plan({**plan_record(plan, costs), "before_the_graph": job.run.plan()})
    return dataclasses.replace(job, plan=plan)


def _plan_run(
    rows: int,
    store: FeatureStore,
    run: RunDirectory,
    config: TrainConfig,
    shared: SharedResources,
    progress: Progress,
) -> Plan:
    """Plan the run, show and save the plan; raise PlanError if the run exceeds memory or disk."""
    plan, costs = _draft(rows, store, config, shared.cluster)
    progress.show(plan_table(plan, costs, timed=False), plan_summary(plan, costs))
    check_memory(plan)
    if isinstance(run.path, Path):
        reused = [] if shared.base is None else reusable_folders(shared.base, config)
        stored = stored_bytes(run.path, *reused)
        check_disk(plan, str(run.path), shutil.disk_usage(run.path).free, stored)
    run.write_plan(plan_record(plan, costs))
    return plan


def _draft(
    rows: int,
    store: FeatureStore,
    config: TrainConfig,
    cluster: Cluster,
    degree: float | None = None,
) -> tuple[Plan, Forecast]:
    plan = draft_plan(rows, store.modalities, config, cluster, degree)
    return plan, forecast(plan, dict(store.modalities), config, Rates())
