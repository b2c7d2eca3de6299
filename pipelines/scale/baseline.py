"""One run of the in-memory reference in a process of its own.

python -m pipelines.scale.baseline --store STORE --out result.json [--options JSON]
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
    """Train the reference once on a feature store and measure it."""

    store: Path
    """Feature store with labels and a split."""
    out: Path
    """File for the result."""
    jobs: int = 1
    """Threads of pynndescent; those of NumPy are set by the environment."""
    options: str = "{}"
    """Options of the run as JSON, nested as in a YAML file; preset balanced."""


def main() -> None:
    """Measure and save."""
    options = tyro.cli(Options)
    idle = peak_bytes()
    report = run_reference(
        open_store(options.store), build_config(json.loads(options.options)), options.jobs
    )
    record = {"idle_bytes": idle, **dataclasses.asdict(report)}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
