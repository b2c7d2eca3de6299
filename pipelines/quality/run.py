"""Measure MAP of SRCH over data sets, code lengths, presets and seeds, as one table.

    python pipelines/quality/run.py DATA [DATA ...] --bits 16 32 64 --presets balanced paper \
        --seeds 5 --out quality.json

DATA are .npz files that `srch_dist.ingest` reads, with labels and a split. Each figure comes from
ingest, train and evaluate on one local cluster.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import distributed
import numpy as np
import tyro

import srch_dist


@dataclass(frozen=True)
class Options:
    """Measure MAP over data sets, code lengths, presets and seeds."""

    data: Annotated[list[Path], tyro.conf.Positional]
    """Feature files (.npz)."""
    bits: list[int] = field(default_factory=lambda: [16, 32, 64])
    """Code lengths."""
    presets: list[str] = field(default_factory=lambda: ["balanced", "paper"])
    """Presets."""
    seeds: int = 5
    """Number of seeds, from 0."""
    config: str = "{}"
    """Further options of the runs as JSON, nested as in a YAML file."""
    out: Path | None = None
    """JSON file for the results of all runs. Default: none."""


def measure(store: Path, folder: Path, scheduler: str, values: dict[str, Any]) -> dict[str, Any]:
    """Train and evaluate once; return scores and seconds."""
    started = time.perf_counter()
    config = srch_dist.build_config(
        {
            **{"baseline": False, "report": False, **values},
            **{"data": str(store), "out": str(folder), "scheduler": scheduler},
        }
    )
    trained = srch_dist.train_model(config)
    assert trained.evaluation is not None, f"{store} has no queries"
    scores = trained.evaluation["map"]
    return {
        "data": store.stem,
        "bits": config.bits,
        "preset": config.preset,
        "seed": config.seed,
        "map": scores,
        "seconds": round(time.perf_counter() - started, 2),
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """Print mean and standard deviation of MAP over seeds, by data, bits, preset, direction."""
    print("| data | bits | preset | MAP, mean | MAP, std | seconds |")
    print("|---|---|---|---|---|---|")

    def key(result: dict[str, Any]) -> tuple[Any, ...]:
        return result["data"], result["bits"], result["preset"]

    for (data, bits, preset), group in itertools.groupby(results, key):
        runs = list(group)
        scores = np.array([list(run["map"].values()) for run in runs])
        means = "/".join(f"{value:.3f}" for value in scores.mean(axis=0))
        spread = "/".join(f"{value:.3f}" for value in scores.std(axis=0))
        seconds = np.median([run["seconds"] for run in runs])
        print(f"| {data} | {bits} | {preset} | {means} | {spread} | {seconds:.1f} |")


def main() -> None:
    """Run every combination and print the table."""
    options = tyro.cli(Options)
    results = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", local_directory=scratch
        ) as cluster,
    ):
        for source in options.data:
            store = Path(scratch) / f"{source.stem}.zarr"
            srch_dist.ingest_source(source, store)
            grid = itertools.product(options.bits, options.presets, range(options.seeds))
            for number, (bits, preset, seed) in enumerate(grid):
                folder = Path(scratch) / f"{source.stem}-{number}"
                values = {"bits": bits, "preset": preset, "seed": seed}
                values |= json.loads(options.config)
                results.append(measure(store, folder, cluster.scheduler_address, values))
                if options.out is not None:
                    options.out.write_text(json.dumps(results, indent=1))
    print_table(results)


if __name__ == "__main__":
    main()
