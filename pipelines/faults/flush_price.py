"""`python -m pipelines.faults.flush_price --out FOLDER`: seconds that waiting for the disk costs.

Trains the emoji pairs and generated pairs, each with and without waiting, in turns. Without it,
`os.fsync` and the flush of the file system do nothing, in every process of the run. Prints the
median seconds of the commands and the median of the ratios of paired runs.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from pipelines.scale.manifolds import Manifolds, write_store

_PATCH = """
import os
import srch_dist.storage.durable as durable
os.fsync = lambda _: None
durable._flush_filesystem = lambda _: None
"""


@dataclass(frozen=True)
class Options:
    """Measure what waiting for the disk costs in seconds of a run."""

    out: Path
    """New folder for stores, runs and the result."""
    pairs: tuple[int, ...] = (62_500,)
    """Sizes of the generated data, 512 + 512 dimensions."""
    repeats: int = 3
    """Runs of each kind."""


def main() -> None:
    """Measure and print a line for each data set."""
    options = tyro.cli(Options)
    out = options.out.absolute()
    patch = out / "patch"
    patch.mkdir(parents=True)
    (patch / "sitecustomize.py").write_text(_PATCH, encoding="utf-8")
    stores: dict[str, list[str]] = {"emoji": []}
    for pairs in options.pairs:
        source = Manifolds({"image": 512, "text": 512})
        store = write_store(out / f"{pairs}.zarr", pairs, 500, source)
        stores[f"{pairs} pairs"] = ["--data", store.path]
    results = {}
    for name, data in stores.items():
        pairs_of_runs = [
            tuple(_seconds(data, out / "run", folder) for folder in (None, patch))
            for _ in range(options.repeats)
        ]
        results[name] = {
            "seconds": statistics.median(waiting for waiting, _ in pairs_of_runs),
            "without": statistics.median(without for _, without in pairs_of_runs),
            "ratio": statistics.median(waiting / without for waiting, without in pairs_of_runs),
        }
        print(name, json.dumps(results[name]), flush=True)
    (out / "flush_price.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _seconds(data: list[str], run: Path, patch: Path | None) -> float:
    """Train, remove the run, and return the seconds of the command."""
    root = str(Path(__file__).resolve().parents[2])
    path = root if patch is None else f"{patch}{os.pathsep}{root}"
    command = [sys.executable, "-m", "srch_dist.train", *data, "--out", str(run), "--no-report"]
    started = time.monotonic()
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
    seconds = time.monotonic() - started
    shutil.rmtree(run)
    return seconds


if __name__ == "__main__":
    main()
