"""Worked sizes of clusters, from `python -m srch_dist.plan`: the table of the README.

python -m pipelines.scale.sizing
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_DIMS = "image=768,text=768"
_GIB = 1 << 30


@dataclass(frozen=True)
class Case:
    """A run and a cluster for it.

    Attributes
    ----------
    pairs, bits : of the run. workers : processes of one thread. memory : of each.
    """

    pairs: int
    bits: int
    workers: int
    memory: str


CASES = (
    Case(10_000_000, 64, 16, "8GiB"),
    Case(100_000_000, 64, 64, "16GiB"),
)
_HEADINGS = (
    *("pairs", "bits", "workers", "memory a worker", "fullest stage", "client", "shared disk"),
    *("network an iteration", "tasks", "time"),
)


def command(case: Case) -> list[str]:
    """What plans a case."""
    options = ["--pairs", case.pairs, "--dims", _DIMS, "--bits", case.bits]
    options += ["--workers", case.workers, "--memory-limit", case.memory, "--json"]
    return [sys.executable, "-m", "srch_dist.plan", *map(str, options)]


def plan(case: Case) -> dict[str, object]:
    """What the command says of a case; raises where it does not fit."""
    done = subprocess.run(command(case), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    found: dict[str, object] = json.loads(done.stdout)
    return found


def row(case: Case) -> list[str]:
    """The cells of a case."""
    found = plan(case)
    fullest = max(found["stages"], key=lambda stage: stage["worker_bytes"])
    return [
        f"{case.pairs:,}",
        f"{case.bits}",
        f"{case.workers}",
        case.memory.replace("GiB", " GiB"),
        f"{fullest['name']}, {fullest['worker_bytes'] / _GIB:.1f} GiB",
        f"{found['client_bytes'] / _GIB:.1f} GiB",
        f"{found['disk_bytes'] / _GIB:,.0f} GiB",
        f"{found['network_bytes_per_iteration'] / _GIB:,.0f} GiB",
        f"{found['tasks']:,}",
        f"{found['seconds'] / 3600:.1f} h for {found['iterations']} iterations",
    ]


def main() -> None:
    """Print the table in Markdown."""
    lines = [list(_HEADINGS), ["---"] * len(_HEADINGS), *(row(case) for case in CASES)]
    for line in lines:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
