"""The beginning of a run: its rows and its plan, or what an earlier try has left of it."""

from __future__ import annotations

import dataclasses
import shutil

from srch_dist.config.options import TrainConfig
from srch_dist.plan.cost_model import forecast
from srch_dist.plan.planner import check_disk, check_memory, draft_plan
from srch_dist.plan.rates import Rates
from srch_dist.plan.run_plan import Plan
from srch_dist.plan.table import plan_record, plan_table
from srch_dist.runtime.cluster import Cluster
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import stored_bytes
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.hold import LockedRun
from srch_dist.train.resume import data_record, refuse_other_data, verify_run
from srch_dist.train.reuse import share_stages, shared_folders, shared_partition_rows
from srch_dist.train.rows import choose_rows, note_unused, write_rows


@dataclasses.dataclass(frozen=True)
class SharedResources:
    """What runs of one sweep have in common.

    Attributes
    ----------
    cluster : that the caller is connected to.
    base : run whose features and graph are taken, as of `prepare_run`; None to make them anew.
    """

    cluster: Cluster
    base: RunDirectory | None = None


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """A run whose rows are chosen and whose work is planned."""

    held: LockedRun
    store: FeatureStore
    config: TrainConfig
    shared: SharedResources
    plan: Plan
    held_out: int


def begin(
    store: FeatureStore,
    held: LockedRun,
    config: TrainConfig,
    shared: SharedResources,
    progress: Progress,
) -> PreparedRun:
    """Choose the rows and plan the work, or hold what is there against data and checksums."""
    run, base = held.run, shared.base
    rows, queries = choose_rows(store, config)
    dims = ", ".join(f"{g} {d}" for g, d in store.modalities.items())
    progress.note(
        f"{len(rows)} pairs of {store.path}: {dims}; {config.bits} bits, preset {config.preset}; "
        f"run {run.path}"
    )
    note_unused(store, rows, queries, config, progress)
    stages = run.stages(config)
    begun = stages.find("rows")
    if begun is not None:
        refuse_other_data(run, store, begun.values)
        # Its arrays are cut like this, whatever is asked for now.
        config = dataclasses.replace(config, partition_rows=begun.values["partition_rows"])
    elif base is not None:
        config = dataclasses.replace(config, partition_rows=shared_partition_rows(base))
    plan = make_plan(len(rows), store, run, config, shared, progress)
    if begun is None:
        write_rows(run, plan, rows, queries)
        values = {**data_record(store), "partition_rows": plan.partition_rows}
        stages.commit("rows", values, {})
    if base is not None:
        share_stages(base, run, config)
    if begun is not None:
        verify_run(run, plan, config, progress)
    return PreparedRun(held, store, config, shared, plan, len(queries))


def make_plan(
    rows: int,
    store: FeatureStore,
    run: RunDirectory,
    config: TrainConfig,
    shared: SharedResources,
    progress: Progress,
    degree: float | None = None,
) -> Plan:
    """Plan the run, show and save the plan, and refuse what does not fit.

    Once the graph is built, its ``degree`` replaces the largest that it could have had.
    """
    cluster = shared.cluster
    plan = draft_plan(
        rows,
        store.modalities,
        config,
        cluster.workers,
        cluster.memory_limit,
        cluster.restarts,
        degree,
    )
    costs = forecast(plan, dict(store.modalities), config, Rates())
    if degree is None:
        progress.show(plan_table(plan, costs, timed=False))
        check_memory(plan)
        elsewhere = [] if shared.base is None else shared_folders(shared.base, config)
        stored = stored_bytes(run.path, *elsewhere)
        check_disk(plan, str(run.path), shutil.disk_usage(run.path).free, stored)
        run.write_plan(plan_record(plan, costs))
    else:
        run.write_plan({**plan_record(plan, costs), "before_the_graph": run.plan()})
    return plan
