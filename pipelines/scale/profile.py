"""Profile a training run: seconds of computing, disk, transfer and waiting, by step and by task.

    python -m pipelines.scale.profile --store STORE --out profile.json [--options JSON]

The seconds are Dask's fine performance metrics, summed over all workers. A step is the part of
`srch_dist.algorithm` that defines the function of a task.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import distributed
import tyro

import srch_dist.algorithm
from srch_dist import train_model

from .engine import Options as RunOptions
from .engine import measured_run, stage_seconds

# Activity of Dask's metrics -> column of the profile. What is not listed is "overhead".
_COLUMNS = {
    "thread-cpu": "compute",
    "thread-noncpu": "disk",  # a task waits for the disk, or for a processor
    "network": "transfer",
    "disk-read": "spill",
    "disk-write": "spill",
}
COLUMNS = ("compute", "disk", "transfer", "spill", "overhead")
# Two heartbeats of a worker, after which the scheduler has its last metrics.
_HEARTBEATS = 3.0
_SHOWN = 25

# (step, task) -> column -> seconds of all workers.
Profile = dict[tuple[str, str], dict[str, float]]


@dataclass(frozen=True)
class Options(RunOptions):
    """Train once on a feature store, and show where the workers spent their time."""


def measure(options: Options) -> dict[str, Any]:
    """Train once; return seconds of the run, of its stages, and of its tasks."""
    with measured_run(options) as (cluster, client, config):
        started = time.perf_counter()
        trained = train_model(config)
        seconds = time.perf_counter() - started
        time.sleep(_HEARTBEATS)
        profile = by_task(client.run_on_scheduler(_metrics))
        summary, history = trained.run.summary(), trained.run.history()
        stages = stage_seconds(trained.run)
    busy = sum(sum(row.values()) for row in profile.values())
    return {
        "rows": summary["rows"],
        "workers": cluster.workers,
        "seconds": seconds,
        "idle": cluster.workers * seconds - busy,
        "stages": stages,
        "graph": summary["graph"]["modalities"],
        "cg_iterations": [record["cg_iterations"] for record in history],
        "tasks": [{"step": s, "task": t, **row} for (s, t), row in sorted(profile.items())],
    }


def _metrics(dask_scheduler: distributed.Scheduler) -> dict[tuple[Any, ...], float]:
    return {
        key: value
        for key, value in dask_scheduler.cumulative_worker_metrics.items()
        if isinstance(key, tuple)
    }


def by_task(metrics: Mapping[tuple[Any, ...], float]) -> Profile:
    """Sum metrics (context, …, task, activity, unit) in seconds by step, task and column."""
    steps = dict(functions())
    profile: Profile = defaultdict(lambda: dict.fromkeys(COLUMNS, 0.0))
    for (context, *labels, activity, unit), value in metrics.items():
        if unit != "seconds" or context == "get-data":  # the receiver counts a transfer
            continue
        task = str(labels[-1]) if labels and context == "execute" else context
        row = profile[steps.get(task, "other"), task]
        row[_COLUMNS.get(activity, "overhead")] += value
    return dict(profile)


def functions() -> Iterator[tuple[str, str]]:
    """List the functions of `srch_dist.algorithm`, each with its module or folder there."""
    package = srch_dist.algorithm
    prefix = f"{package.__name__}."
    for info in pkgutil.walk_packages(package.__path__, prefix):
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == info.name:
                # As in the key of a task; see `srch_dist.runtime.tasks`.
                yield name.strip("_"), info.name.removeprefix(prefix).split(".")[0]


def table(record: Mapping[str, Any]) -> str:
    """Show the profile: one line per step, then the tasks with the most seconds."""
    steps: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(COLUMNS, 0.0))
    for row in record["tasks"]:
        for column in COLUMNS:
            steps[row["step"]][column] += row[column]
    lines = [
        f"{record['rows']} rows, {record['workers']} workers, {record['seconds']:.0f} s; "
        f"seconds of all workers, idle: {record['idle']:.0f}",
        "",
        _row("step", COLUMNS),
        _row("---", ["--:"] * len(COLUMNS)),
    ]
    ordered = sorted(steps.items(), key=lambda item: -sum(item[1].values()))
    lines += [_row(name, [f"{row[c]:.1f}" for c in COLUMNS]) for name, row in ordered]
    lines += ["", _row("task", COLUMNS), _row("---", ["--:"] * len(COLUMNS))]
    tasks = sorted(record["tasks"], key=lambda row: -sum(row[c] for c in COLUMNS))
    lines += [
        _row(f"{row['step']}: {row['task']}", [f"{row[c]:.1f}" for c in COLUMNS])
        for row in tasks[:_SHOWN]
    ]
    return "\n".join(lines)


def _row(name: str, cells: Any) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Profile one run, write the record and print the table."""
    options = tyro.cli(Options)
    record = measure(options)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
