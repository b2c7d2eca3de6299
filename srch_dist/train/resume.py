"""Resume a run: verify its data and arrays against recorded checksums; skip finished stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from srch_dist.algorithm.checkpoints import discard_damaged_checkpoints
from srch_dist.algorithm.features.normalise import prepare_features, verify_features
from srch_dist.algorithm.features.sample import verify_sample
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph import (
    GraphReport,
    ModalityReport,
    Restart,
    release_compiler_memory,
    set_graph,
    verify_graph,
)
from srch_dist.config.versions import changed_versions
from srch_dist.errors import InputError
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory


def data_record(store: FeatureStore) -> dict[str, Any]:
    """Return the values that identify a feature store: rows, modalities and checksums."""
    return {
        "rows": store.rows,
        "modalities": dict(store.modalities),
        "checksums": dict(store.checksums),
    }


def refuse_other_data(run: RunDirectory, store: FeatureStore, recorded: Mapping[str, Any]) -> None:
    """Raise InputError if a run's ``recorded`` `data_record` differs from that of ``store``."""
    current = data_record(store)
    changed = [
        f"{key} is {current[key]}, the run has {recorded[key]}"
        for key in current
        if current[key] != recorded[key]
    ]
    if changed:
        raise InputError(
            f"{run.path} was started with other data than {store.path}: {'; '.join(changed)}. "
            "Give the data of the run, or choose another run directory with --out"
        )


def warn_other_versions(recorded: Mapping[str, Any], progress: Progress) -> None:
    """Warn if packages have other versions than when the run was started.

    Parameters
    ----------
    recorded : the record of the stage "rows". Runs of older srch-dist releases recorded no
        versions; nothing is then compared.
    """
    changed = changed_versions(recorded.get("versions", {}))
    if changed:
        progress.warn(
            f"the run was started with {', '.join(changed)}. Codes may differ from the codes of an "
            "uninterrupted run. To get the same codes, resume with the versions of the start"
        )


def verify_committed(job: Job) -> None:
    """Verify the checksum of every array that the run has committed.

    A damaged last checkpoint is removed, and the run resumes from the previous checkpoint. Any
    other damaged array is an error.

    Raises
    ------
    StorageError : an array is damaged or missing.
    """
    discard_damaged_checkpoints(job)
    work = verify_features(job) if job.stages.find("features") else []
    work += verify_graph(job) if job.stages.find("edges") else []
    work += verify_sample(job) if job.stages.find("sample") else []
    latest = job.run.latest()
    done = f"iteration {latest['iteration']}" if latest else "the stages before the loop"
    job.progress.note(f"resuming after {done}; verifying the stored arrays")
    with job.progress.stage("verify", len(work)) as stage:
        tasks.run_all(work, stage)


def memory_advice(plan: Plan) -> str:
    """Return advice for killed workers: the memory that the plan expects, and what to change."""
    worst = plan.fullest
    expected = plan.reserved_bytes + worst.projected_bytes
    return (
        f"the plan expects that a worker uses at most {expected / 2**20:.0f} MiB (in the "
        f"{worst.name} stage); the limit of a worker is {plan.memory_limit / 2**20:.0f} MiB. Give "
        "workers more memory (--memory-limit). If the machine has less memory than the limits of "
        "all workers together, use fewer workers. Then continue with --resume"
    )


def resume_features(job: Job, store: FeatureStore) -> Statistics:
    """Return the statistics of the features; prepare them if no earlier attempt did."""
    stages = job.stages
    if stages.find("features") is None:
        return prepare_features(job, store)
    return Statistics.of_record(stages.read("spilled"))


def resume_graph(job: Job, restart: Restart | None) -> GraphReport:
    """Return the report of the graph; build the graph if no earlier attempt built it.

    ``restart`` is a function that restarts the workers that imported a module. With None, no worker
    is restarted.
    """
    stages = job.stages
    if (record := stages.find("graph")) is None:
        record = stages.commit("graph", dataclasses.asdict(set_graph(job, restart)), {})
    else:
        # On a permanent cluster, workers may still hold compiled code from an earlier attempt.
        release_compiler_memory(restart)
    # The units' component lists (up to two int64 per edge) are merged, so remove them from disk.
    stages.forget_units("connected")
    reports = {g: ModalityReport(**record.values["modalities"][g]) for g in job.modalities}
    return GraphReport(reports, record.values["components"])
