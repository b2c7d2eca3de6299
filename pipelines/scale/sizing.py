"""Print the sizing table of docs/how-to/plan-a-run.md, computed by `python -m srch_dist.plan`.

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
    """A run, and a cluster that it fits.

    Attributes
    ----------
    pairs : int
        Training rows.
    bits : int
        Code length.
    workers : int
        Worker processes with one thread each.
    memory : str
        Memory limit per worker, e.g. ``"8GiB"``.
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
    *("pairs", "bits", "workers", "memory per worker", "fullest stage", "client", "shared disk"),
    *("network per iteration", "tasks", "time"),
)


def command(case: Case) -> list[str]:
    """The command line that plans a case."""
    options = ["--pairs", case.pairs, "--dims", _DIMS, "--bits", case.bits]
    options += ["--workers", case.workers, "--memory-limit", case.memory, "--json"]
    return [sys.executable, "-m", "srch_dist.plan", *map(str, options)]


def plan(case: Case) -> dict[str, object]:
    """Run the command of a case and return its JSON.

    Raises
    ------
    RuntimeError
        The case does not fit its cluster.
    """
    done = subprocess.run(command(case), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    record: dict[str, object] = json.loads(done.stdout)
    return record


def row(case: Case) -> list[str]:
    """The table cells of a case."""
    record = plan(case)
    fullest = max(record["stages"], key=lambda stage: stage["worker_bytes"])
    return [
        f"{case.pairs:,}",
        f"{case.bits}",
        f"{case.workers}",
        case.memory.replace("GiB", " GiB"),
        f"{fullest['name']}, {fullest['worker_bytes'] / _GIB:.1f} GiB",
        f"{record['client_bytes'] / _GIB:.1f} GiB",
        f"{record['disk_bytes'] / _GIB:,.0f} GiB",
        f"{record['network_bytes_per_iteration'] / _GIB:,.0f} GiB",
        f"{record['tasks']:,}",
        f"{record['seconds'] / 3600:.1f} h for {record['iterations']} iterations",
    ]


def main() -> None:
    """Print the table in Markdown."""
    lines = [list(_HEADINGS), ["---"] * len(_HEADINGS), *(row(case) for case in CASES)]
    for line in lines:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
