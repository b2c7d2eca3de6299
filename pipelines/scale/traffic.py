"""Count the bytes that a training run moves between workers, by step and by task.

    python -m pipelines.scale.traffic --store STORE --out traffic.json [--options JSON]

The bytes are those that Dask's workers received from other workers, from their logs of transfers. A
step is the part of `srch_dist.algorithm` that defines the function of a task.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import distributed
import tyro

from srch_dist import train_model
from srch_dist.runtime.watchdog import task_name

from .engine import Options as RunOptions
from .engine import measured_run
from .profile import functions

MIB = 1 << 20
# Transfers that a worker remembers.
_LOG = 1_000_000


@dataclass(frozen=True)
class Options(RunOptions):
    """Train once on a feature store, and show what the workers sent to each other."""


def measure(options: Options) -> dict[str, Any]:
    """Train once; return the bytes received by all workers, by step and task."""
    with measured_run(options) as (cluster, client, config):
        client.run(_remember)
        trained = train_model(config)
        moved = by_task(client.run(_received).values())
        summary, plan = trained.run.summary(), trained.run.plan()
    return {
        "rows": summary["rows"],
        "workers": cluster.workers,
        "iterations": summary["iterations"],
        "blocks": summary["blocks"],
        "degree": plan["degree"],
        "planned": plan["network_bytes_per_iteration"],
        "tasks": [
            {"step": step, "task": task, "bytes": size} for (step, task), size in moved.items()
        ],
    }


def _remember(dask_worker: distributed.Worker) -> None:
    log = dask_worker.transfer_incoming_log
    dask_worker.transfer_incoming_log = type(log)(log, maxlen=_LOG)


def _received(dask_worker: distributed.Worker) -> dict[str, int]:
    """Sum the bytes that this worker received, by name of the task that computed them."""
    received: dict[str, int] = defaultdict(int)
    for transfer in dask_worker.transfer_incoming_log:
        for key, size in transfer["keys"].items():
            received[task_name(key)] += size
    return dict(received)


def by_task(workers: Iterable[Mapping[str, int]]) -> dict[tuple[str, str], int]:
    """Sum the bytes of all workers by step and task; the largest come first."""
    steps = dict(functions())
    total: dict[tuple[str, str], int] = defaultdict(int)
    for received in workers:
        for task, size in received.items():
            total[steps.get(task.strip("_"), "other"), task.strip("_")] += size
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def table(record: Mapping[str, Any]) -> str:
    """Show the bytes: one line per task with at least 1 MiB."""
    total = sum(row["bytes"] for row in record["tasks"])
    lines = [
        f"{record['rows']} rows, {record['workers']} workers, {record['blocks']} blocks, "
        f"{record['iterations']} iterations: {total / MIB:.0f} MiB between workers",
        "",
        "| step | task | MiB |",
        "|---|---|--:|",
    ]
    rows = [row for row in record["tasks"] if row["bytes"] >= MIB]
    lines += [f"| {row['step']} | {row['task']} | {row['bytes'] / MIB:.1f} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Count the bytes of one run, write the record and print the table."""
    options = tyro.cli(Options)
    record = measure(options)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
