"""Measure one training run of srch_dist in its own process, and the floors of the machine.

    python -m pipelines.scale.engine --store STORE --out result.json [--options JSON]

Floors are measured after the run, in the same workers, so that they do not raise its peak memory.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import tyro

from srch_dist import build_config, open_store, train_model
from srch_dist.config.options import TrainConfig
from srch_dist.plan.calibrate import measure_cluster
from srch_dist.plan.cost_model import forecast
from srch_dist.plan.planner import draft_plan
from srch_dist.plan.rates import Rates
from srch_dist.plan.run_plan import Plan
from srch_dist.plan.table import plan_record
from srch_dist.runtime.cluster import Cluster, connect
from srch_dist.runtime.memory import peak_bytes
from srch_dist.storage.run.directory import RunDirectory

from .floors import cg_iteration_seconds

_STEPS = ("w", "z", "s", "b")


@dataclass(frozen=True)
class Options:
    """Train once on a feature store; measure time, memory, recall and MAP."""

    store: Path
    """Feature store with labels and a split."""
    out: Path
    """JSON file for the result."""
    workers: int = 2
    """Worker processes."""
    memory_limit: str = "2GiB"
    """Memory per worker."""
    options: str = "{}"
    """Options of the run as JSON, nested as in a YAML file."""


def measure(options: Options) -> dict[str, Any]:
    """Train once and return the record that `pipelines.scale.figures` reads."""
    store = open_store(options.store)
    with (
        tempfile.TemporaryDirectory(dir=options.out.parent) as folder,
        connect(None, options.workers, options.memory_limit) as cluster,
    ):
        client = distributed.default_client()
        config = training_config(options, f"{folder}/run", client, keep_work=True)
        rows = int(np.count_nonzero(store.read("split") == 0))
        plan = draft_plan(rows, store.modalities, config, cluster)
        idle = _peaks(client)
        uses_nn_descent = "pynndescent" in plan.methods.values()
        compile_seconds = _compile(client) if uses_nn_descent else 0.0
        started = time.perf_counter()
        trained = train_model(config)
        seconds = time.perf_counter() - started
        peaks = {**trained.run.summary()["peak_memory"]}
        assert trained.evaluation is not None, f"{store.path} has no queries"
        rates = measure_cluster(cluster)
        one_block_per_worker = dataclasses.replace(config, blocks=cluster.workers)
        floor_plan = draft_plan(rows, store.modalities, one_block_per_worker, cluster)
        floor = cg_iteration_seconds(trained.run, floor_plan, config.embedding_columns)
        return {
            "rows": rows,
            "dims": dict(store.modalities),
            "bits": config.bits,
            "workers": cluster.workers,
            "memory_limit": cluster.memory_limit,
            "reason": trained.reason,
            "map": trained.evaluation["map"],
            "compile_seconds": compile_seconds,
            "seconds_with_evaluation": seconds,
            "idle_bytes": idle,
            "peak_bytes": peaks,
            "stage_peaks": trained.run.summary()["stage_peaks"],
            **_run_record(trained.run),
            **_plan_record(plan, dict(store.modalities), config, rates, trained.run),
            "cg_floor_seconds": floor,
            "free_bytes": shutil.disk_usage(options.out.parent).free,
        }


@contextmanager
def measured_run(options: Options) -> Iterator[tuple[Cluster, distributed.Client, TrainConfig]]:
    """Start a local cluster; yield it, its client, and the configuration of a run on it.

    The run's folder is beside ``options.out``, and is removed at the end.
    """
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=options.out.parent) as folder,
        connect(None, options.workers, options.memory_limit) as cluster,
    ):
        client = distributed.default_client()
        yield cluster, client, training_config(options, f"{folder}/run", client)


def training_config(
    options: Options, out: str, client: distributed.Client, **others: Any
) -> TrainConfig:
    """Return the configuration of a run on the cluster of ``client``, without page and baseline."""
    return build_config(
        {
            **json.loads(options.options),
            "data": str(options.store),
            "out": out,
            "scheduler": client.scheduler.address,
            "baseline": False,
            "report": False,
            **others,
        }
    )


def stage_seconds(run: RunDirectory) -> dict[str, float]:
    """Return the seconds of a finished run by stage; each step of the loop is a stage."""
    summary, history = run.summary(), run.history()
    seconds = {name: value for name, value in summary["seconds"].items() if name != "training"}
    for step in _STEPS:
        seconds[step] = sum(record["seconds"][step] for record in history)
    return seconds


def _run_record(run: RunDirectory) -> dict[str, Any]:
    """Seconds by stage and step, CG iterations, recall, leaves and disk of a finished run."""
    summary, history = run.summary(), run.history()
    graphs = summary["graph"]["modalities"]
    return {
        "iterations": summary["iterations"],
        "seconds": stage_seconds(run),
        "training_seconds": sum(summary["seconds"].values()),
        "step_seconds": {
            step: float(np.median([record["seconds"][step] for record in history]))
            for step in _STEPS
        },
        "cg_iterations": [record["cg_iterations"] for record in history],
        "cg_iteration_seconds": [record["cg_iteration_seconds"] for record in history],
        "recall": {g: graph["recall"] for g, graph in graphs.items()},
        "leaves": {g: graph["leaves"] for g, graph in graphs.items()},
        "disk_bytes": sum(f.stat().st_size for f in run.path.rglob("*") if f.is_file()),
    }


def _plan_record(
    plan: Plan, dims: dict[str, int], config: TrainConfig, rates: Rates, run: RunDirectory
) -> dict[str, Any]:
    """The plan with its costs, at measured rates and the run's mean number of CG iterations."""
    cg_iterations = round(float(np.mean([record["cg_iterations"] for record in run.history()])))
    costs = forecast(plan, dims, config, dataclasses.replace(rates, cg_iterations=cg_iterations))
    return {"rates": dataclasses.asdict(rates), "plan": plan_record(plan, costs)}


def _peaks(client: distributed.Client) -> dict[str, int]:
    return {"client": peak_bytes(), "worker": max(client.run(peak_bytes).values())}


def _compile(client: distributed.Client) -> float:
    """Seconds until every worker has compiled NN-descent."""
    started = time.perf_counter()
    workers = client.scheduler_info(n_workers=-1)["workers"]
    client.gather([client.submit(_build_small_index, workers=[w], pure=False) for w in workers])
    return time.perf_counter() - started


def _build_small_index() -> None:
    import pynndescent

    rows = np.random.default_rng(0).standard_normal((2000, 8), dtype=np.float32)
    pynndescent.NNDescent(rows, n_neighbors=21, random_state=0, n_jobs=1, compressed=True)


def main() -> None:
    """Measure one run and write the result."""
    options = tyro.cli(Options)
    options.out.write_text(json.dumps(measure(options), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
