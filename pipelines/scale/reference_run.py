"""Measure one run of the in-memory reference in its own process.

python -m pipelines.scale.reference_run --store STORE --out result.json [--options JSON]
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from srch_dist import build_config, open_store
from srch_dist.runtime.memory import peak_bytes

from .reference import run_reference


@dataclass(frozen=True)
class Options:
    """Train the reference once on a feature store; measure time, memory and MAP."""

    store: Path
    """Feature store with labels and a split."""
    out: Path
    """JSON file for the result."""
    jobs: int = 1
    """Threads of pynndescent. OMP_NUM_THREADS sets those of NumPy."""
    options: str = "{}"
    """Options of the run as JSON, nested as in a YAML file. The preset is balanced."""


def main() -> None:
    """Measure one run and write the result."""
    options = tyro.cli(Options)
    idle = peak_bytes()
    report = run_reference(
        open_store(options.store), build_config(json.loads(options.options)), options.jobs
    )
    record = {"idle_bytes": idle, **dataclasses.asdict(report)}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
