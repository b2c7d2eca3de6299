"""What a resumed run does first: hold data and parts against their records, skip what is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from srch_dist.algorithm.checkpoints import verify_checkpoint
from srch_dist.algorithm.features.normalise import prepare_features, verify_features
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.graph import (
    GraphReport,
    ModalityReport,
    Restart,
    release_compiler_memory,
    set_graph,
    verify_graph,
)
from srch_dist.config.options import TrainConfig
from srch_dist.errors import InputError
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, recorded_runs
from srch_dist.storage.run.directory import RunDirectory


def data_record(store: FeatureStore) -> dict[str, Any]:
    """What tells one feature store from another."""
    return {
        "rows": store.rows,
        "modalities": dict(store.modalities),
        "checksums": dict(store.checksums),
    }


def refuse_other_data(run: RunDirectory, store: FeatureStore, begun: Mapping[str, Any]) -> None:
    """Raise InputError where a run was ``begun`` with other data, with what differs."""
    found = data_record(store)
    changed = [
        f"{key} is {found[key]}, the run has {begun[key]}"
        for key in found
        if found[key] != begun[key]
    ]
    if changed:
        raise InputError(
            f"{run.path} was begun with other data than {store.path}: {'; '.join(changed)}; name "
            "those data, or another run directory with --out"
        )


def verify_run(run: RunDirectory, plan: Plan, config: TrainConfig, progress: Progress) -> None:
    """Hold everything that an interrupted run has committed against its checksums."""
    stages = run.stages(config)
    work = verify_features(run, plan, stages) if stages.find("features") else []
    work += verify_graph(run, plan, stages) if stages.find("edges") else []
    work += verify_checkpoint(run, plan)
    latest = run.latest()
    done = f"iteration {latest['iteration']}" if latest else "the stages before the loop"
    progress.note(f"resuming after {done}; verifying what is stored")
    with progress.stage("verify", len(work)) as stage:
        tasks.run_all(work, stage)


def memory_advice(plan: Plan) -> str:
    """What a plan says to one whose workers were killed."""
    worst = plan.fullest
    return (
        f"the plan expects {(plan.idle_bytes + worst.worker_bytes) / 2**20:.0f} MiB at most in a "
        f"worker (in the {worst.name} stage) of the {plan.memory_limit / 2**20:.0f} MiB that it "
        "may use; give workers more memory (--memory-limit), or take fewer of them where the "
        "machine has less than all of them together, then go on with --resume"
    )


def resume_features(
    store: FeatureStore, run: RunDirectory, plan: Plan, config: TrainConfig, progress: Progress
) -> Statistics:
    """The statistics of the features, which are prepared where that is not done."""
    stages = run.stages(config)
    if stages.find("verified") is None:
        work = [tasks.task(arrays.verify_rows, *known) for known in recorded_runs(store)]
        with progress.stage("verify data", len(work)) as stage:
            tasks.run_all(work, stage)
        stages.commit("verified", {}, {})
    if stages.find("features") is None:
        return prepare_features(store, run, plan, config, progress)
    return Statistics.of_record(stages.read("spilled"))


def resume_graph(
    run: RunDirectory,
    modalities: tuple[str, ...],
    plan: Plan,
    config: TrainConfig,
    progress: Progress,
    restart: Restart | None,
) -> GraphReport:
    """The report of the graph, which is set where that is not done; see `set_graph`."""
    stages = run.stages(config)
    if (record := stages.find("graph")) is None:
        graph = set_graph(run, modalities, plan, config, progress, restart)
        record = stages.commit("graph", dataclasses.asdict(graph), {})
    else:
        # Workers of a cluster that is there for longer may have searched in an earlier try.
        release_compiler_memory(restart)
    # Up to two numbers an edge.
    stages.forget_units("connected")
    reports = {g: ModalityReport(**record.values["modalities"][g]) for g in modalities}
    return GraphReport(reports, record.values["components"])
