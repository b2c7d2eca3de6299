"""`python -m pipelines.faults.soak`: many runs of the emoji job under random faults.

Every run has to end with the codes of an undisturbed one, or with a refusal that names its cause.
A run that ends with 75, or is killed itself, is typed again with ``--resume``, under new faults.
The faults of run n follow from the seed and n alone; each run is a line of the log.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import zarr

from pipelines.faults.moments import CLIENT_MOMENTS, FOLDER, WORKER_MOMENTS, arm, disarm

_WORKER_DEEDS = ("kill", "terminate", "exhaust", "stop")
_CLIENT_DEEDS = ("kill", "interrupt", "terminate")
_TRIES, _SECONDS = 12, 1800
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """Runs of the emoji job under random faults."""

    out: Path
    """Folder of the runs and of log.jsonl; removed runs leave their line."""
    runs: int = 50
    """How many."""
    seed: int = 0
    """Of the faults."""
    workers: int = 2
    """Worker processes of each run."""


def main(options: Options) -> int:
    """Run them; the exit code says whether every one ended as it should."""
    options.out.mkdir(parents=True, exist_ok=True)
    clean = options.out / "clean"
    if not (clean / "model.npz").exists():
        done = _command(clean, options, options.out / "none")
        if done.returncode:
            print(done.stderr)
            return 1
    expected = _codes(clean)
    outcomes: Counter[str] = Counter()
    for number in range(options.runs):
        record = _soak_once(number, options, expected)
        outcomes[record["outcome"]] += 1
        with (options.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        print(f"run {number}: {record['outcome']} after {len(record['tries'])} tries", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    return 0 if set(outcomes) <= {"same codes", "refused"} else 1


def _soak_once(number: int, options: Options, expected: np.ndarray[Any, Any]) -> dict[str, Any]:
    """One run to its end; see the module."""
    draw = random.Random(f"{options.seed}-{number}")
    out, faults = options.out / f"run-{number:03d}", options.out / f"faults-{number:03d}"
    tries: list[dict[str, Any]] = []
    outcome = "never ended"
    start = time.monotonic()
    for attempt in range(_TRIES):
        armed = _arm_some(draw, faults, attempt)
        try:
            done = _command(out, options, faults)
        except subprocess.TimeoutExpired:
            tries.append({"faults": armed, "code": "hung"})
            outcome = "hung"
            break
        finally:
            disarm(faults)
        tries.append({"faults": armed, "code": done.returncode, "last": _last(done.stderr)})
        if done.returncode == 0:
            same = np.array_equal(_codes(out), expected)
            outcome = "same codes" if same else "other codes"
            break
        if done.returncode not in (75, -9):
            named = any(line.startswith("error: ") for line in done.stderr.splitlines())
            outcome = "refused" if named and "Traceback" not in done.stderr else "failed"
            break
    if outcome in ("same codes", "refused"):
        shutil.rmtree(out, ignore_errors=True)
    seconds = round(time.monotonic() - start, 1)
    named = {"run": number, "seed": options.seed, "outcome": outcome}
    return {**named, "seconds": seconds, "tries": tries}


def _arm_some(draw: random.Random, faults: Path, attempt: int) -> list[str]:
    """Some faults for one try: fewer at each, so that a run comes to its end."""
    armed = []
    for _ in range(max(0, draw.randint(0, 3) - attempt // 3)):
        client = draw.random() < 0.4
        moments = [m for m in CLIENT_MOMENTS if not m.startswith("ingest")]
        at = draw.choice(moments if client else [m for m in WORKER_MOMENTS if m != "encode"])
        do = draw.choice(_CLIENT_DEEDS if client else _WORKER_DEEDS)
        call = draw.randint(1, 4)
        arm(faults, at, do, call)
        armed.append(f"{do} at {at} {call}")
    return armed


def _command(out: Path, options: Options, faults: Path) -> subprocess.CompletedProcess[str]:
    faults.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(_ROOT), FOLDER: str(faults), "OMP_NUM_THREADS": "1"},
        "DASK_DISTRIBUTED__WORKER__PRELOAD": '["pipelines.faults.moments"]',
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
    }
    return subprocess.run(
        [
            *(sys.executable, "-m", "pipelines.faults.client", "train"),
            *("--out", str(out), "--resume", "--no-evaluate"),
            *("--workers", str(options.workers), "--memory-limit", "1GiB"),
            *("--partition-rows", "300", "--blocks", "2"),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _codes(out: Path) -> np.ndarray[Any, Any]:
    return np.asarray(zarr.open_array(str(out / "codes.zarr"), mode="r")[:])


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m pipelines.faults.soak")))
