"""`python -m pipelines.faults.soak`: many runs of the emoji job under random faults.

Every run has to end with the codes of an undisturbed one, or with a refusal that names its cause.
A run that ends with 75, or is killed itself, is typed again with ``--resume``, under new faults.
The faults of run n follow from the seed and n alone. Each run is a line of ``log.jsonl``; runs that
have theirs are not made again. ``soak.json`` sums them up.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import zarr

from pipelines.faults.moments import CLIENT_MOMENTS, FOLDER, WORKER_MOMENTS, arm, disarm

_WORKER_DEEDS = ("kill", "terminate", "exhaust", "stop", "hang")
_CLIENT_DEEDS = ("kill", "interrupt", "terminate")
# Moments that a run has once.
_ONCE = {"model", "finish"}
_TRIES, _SECONDS = 12, 1800
# A stopped worker, and a task that hangs, are given up sooner than in earnest.
_PATIENCE = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
    "DASK_SRCH_DIST__TASK_TIMEOUT": "60s",
}
_GOOD = {"same codes", "refused"}
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
    iterations: int = 5
    """Of each run."""


def main(options: Options) -> int:
    """Run them; the exit code says whether every one ended as it should."""
    options.out.mkdir(parents=True, exist_ok=True)
    clean = options.out / "clean"
    if not (clean / "codes.zarr").exists():
        code, errors = _command(clean, options, options.out / "none")
        if code:
            print(errors)
            return 1
    expected = _codes(clean)
    log = options.out / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    records = [record for line in lines if (record := json.loads(line))["seed"] == options.seed]
    for number in range(options.runs):
        if number in {record["run"] for record in records}:
            continue
        record = _soak_once(number, options, expected)
        records.append(record)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"run {number}: {record['outcome']} after {len(record['tries'])} tries", flush=True)
    summary = summarise(records)
    (options.out / "soak.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: summary[name] for name in ("runs", "tries", "outcomes", "faults")}))
    return 0 if set(summary["outcomes"]) <= _GOOD else 1


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What came of the runs of a log: outcomes, tries, exit codes and faults, counted."""
    tries = [one for record in records for one in record["tries"]]
    refusals = [r["tries"][-1]["last"] for r in records if r["outcome"] == "refused"]
    return {
        "runs": len(records),
        "seeds": sorted({record["seed"] for record in records}),
        "tries": len(tries),
        "outcomes": dict(Counter(record["outcome"] for record in records)),
        "exit_codes": dict(Counter(str(one["code"]) for one in tries)),
        "faults": sum(len(one["faults"]) for one in tries),
        "happened": dict(Counter(fault for one in tries for fault in one["happened"])),
        "refusals": refusals,
        "seconds": round(sum(record["seconds"] for record in records), 1),
    }


def _soak_once(number: int, options: Options, expected: np.ndarray[Any, Any]) -> dict[str, Any]:
    """One run to its end; see the module."""
    draw = random.Random(f"{options.seed}-{number}")
    out, faults = options.out / f"run-{number:03d}", options.out / f"faults-{number:03d}"
    tries: list[dict[str, Any]] = []
    outcome = "never ended"
    start = time.monotonic()
    for attempt in range(_TRIES):
        armed = _arm_some(draw, faults, attempt)
        code, errors = _command(out, options, faults)
        done = {"faults": armed, "happened": _happened(faults), "code": code, "last": _last(errors)}
        tries.append(done)
        disarm(faults)
        if code not in (75, -signal.SIGKILL):
            outcome = _outcome(code, errors, out, expected)
            break
    if outcome in _GOOD:
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
        call = 1 if at in _ONCE else draw.randint(1, 3)
        arm(faults, at, do, call)
        armed.append(f"{do} at {at} {call}")
    return armed


def _happened(faults: Path) -> list[str]:
    """The faults that were done."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in faults.glob("done-*"))
    return sorted(f"{one['do']} at {one['at']}" for one in found)


def _outcome(code: int | None, errors: str, out: Path, expected: np.ndarray[Any, Any]) -> str:
    if code is None:
        return "hung"
    if code == 0:
        return "same codes" if np.array_equal(_codes(out), expected) else "other codes"
    named = any(line.startswith("error: ") for line in errors.splitlines())
    return "refused" if named and "Traceback" not in errors else "failed"


def _command(out: Path, options: Options, faults: Path) -> tuple[int | None, str]:
    """Exit code, None where it had to be ended, and what was written to stderr."""
    faults.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(_ROOT), FOLDER: str(faults), "OMP_NUM_THREADS": "1"},
        **{"DASK_DISTRIBUTED__WORKER__PRELOAD": '["pipelines.faults.moments"]', **_PATIENCE},
    }
    errors = options.out / "stderr.txt"
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipelines.faults.client", "train"),
                *("--out", str(out), "--resume", "--no-evaluate"),
                *("--workers", str(options.workers), "--memory-limit", "1GiB"),
                *("--partition-rows", "300", "--blocks", "2"),
                *("--method.iterations", str(options.iterations), "--method.threshold", "0"),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
            # What is started in the background ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Workers that were stopped outlive a client that was killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, errors.read_text(encoding="utf-8", errors="replace")


def _codes(out: Path) -> np.ndarray[Any, Any]:
    return np.asarray(zarr.open_array(str(out / "codes.zarr"), mode="r")[:])


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m pipelines.faults.soak")))
