"""Soak test: train the emoji set many times under random faults.

    python -m pipelines.faults.soak --out FOLDER

A run passes if it ends with the codes of an undisturbed run, or with an error that names its cause.
A run that exits with 75 or is killed is resumed with ``--resume`` under new faults. The faults of
run n depend on the seed and n only. ``log.jsonl`` has one line per run. Runs in it are not
repeated. ``soak.json`` summarises them.
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
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import zarr

from pipelines.faults.moments import CLIENT_MOMENTS, FOLDER, WORKER_MOMENTS, arm, disarm
from pipelines.faults.power import PowerDisk, power_disk

_WORKER_ACTIONS = ("kill", "terminate", "exhaust", "stop", "hang")
_CLIENT_ACTIONS = ("kill", "interrupt", "terminate")
# The client waits at the moment, and the power is cut there, in this share of the first attempts.
_CUT, _CUT_SHARE = "hold", 0.6
# Moments that happen once per run.
_SINGLE_CALL = {"model", "finish"}
_MAX_ATTEMPTS, _TIMEOUT_SECONDS = 12, 1800
# Shorter timeouts than in production, for stopped workers and hung tasks.
_TIMEOUTS = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
    "DASK_SRCH_DIST__TASK_TIMEOUT": "60s",
}
_PASSED = {"same codes", "refused"}
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """Train the emoji set many times under random faults."""

    out: Path
    """Folder of the runs and of log.jsonl. Passed runs are deleted; their lines remain."""
    runs: int = 50
    """Number of runs."""
    seed: int = 0
    """Seed of the faults."""
    workers: int = 2
    """Worker processes of each run."""
    iterations: int = 5
    """Iterations of each run."""
    power: bool = False
    """Cut the power too, on a disk of its own for each run; needs Linux and root."""


def main(options: Options) -> int:
    """Run the soak test; the exit code is 0 if every run passed."""
    options.out.mkdir(parents=True, exist_ok=True)
    clean = options.out / "clean"
    if not (clean / "codes.zarr").exists():
        code, errors = _command(clean, options, options.out / "none", None)
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
        attempts = len(record["tries"])
        print(f"run {number}: outcome={record['outcome']!r} attempts={attempts}", flush=True)
    summary = summarise(records)
    (options.out / "soak.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: summary[name] for name in ("runs", "tries", "outcomes", "faults")}))
    return 0 if set(summary["outcomes"]) <= _PASSED else 1


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summary of the runs in a log: counts of outcomes, attempts, exit codes and faults."""
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
    """Train once under faults, resume until the run ends, and return its record."""
    folder = options.out.absolute() / f"run-{number:03d}"
    folder.mkdir(exist_ok=True)
    with power_disk(folder) if options.power else nullcontext() as disk:
        record = _soak_on(number, options, expected, folder, disk)
    if record["outcome"] in _PASSED:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def _soak_on(
    number: int,
    options: Options,
    expected: np.ndarray[Any, Any],
    folder: Path,
    disk: PowerDisk | None,
) -> dict[str, Any]:
    """Train and resume in a folder or, where the power is cut, on a disk of its own."""
    rng = random.Random(f"{options.seed}-{number}")
    faults = options.out.absolute() / f"faults-{number:03d}"
    out = (disk.path if disk else folder) / "run"
    seen = (disk.outside if disk else folder) / "run"
    tries: list[dict[str, Any]] = []
    outcome = "never ended"
    start = time.monotonic()
    for attempt in range(_MAX_ATTEMPTS):
        armed = _arm_random(rng, faults, attempt)
        if disk and rng.random() < _CUT_SHARE - 0.1 * attempt:
            armed.append(_arm_cut(rng, faults))
        code, errors = _command(out, options, faults, disk)
        record = {"faults": armed, "happened": _happened(faults), "code": code}
        tries.append({**record, "last": _last_line(errors)})
        disarm(faults)
        if code not in (75, -signal.SIGKILL):
            outcome = _outcome(code, errors, seen, expected)
            break
    seconds = round(time.monotonic() - start, 1)
    return {
        **{"run": number, "seed": options.seed, "outcome": outcome},
        **{"seconds": seconds, "tries": tries},
    }


def _arm_random(rng: random.Random, faults: Path, attempt: int) -> list[str]:
    """Arm random faults for one attempt; later attempts have fewer, so that a run can finish."""
    armed = []
    for _ in range(max(0, rng.randint(0, 3) - attempt // 3)):
        client = rng.random() < 0.4
        moments = [m for m in CLIENT_MOMENTS if not m.startswith("ingest")]
        at = rng.choice(moments if client else [m for m in WORKER_MOMENTS if m != "encode"])
        do = rng.choice(_CLIENT_ACTIONS if client else _WORKER_ACTIONS)
        call = 1 if at in _SINGLE_CALL else rng.randint(1, 3)
        arm(faults, at, do, call)
        armed.append(f"{do} at {at} {call}")
    return armed


def _arm_cut(rng: random.Random, faults: Path) -> str:
    """Arm a moment of the client at which the power is cut."""
    at = rng.choice([m for m in CLIENT_MOMENTS if not m.startswith("ingest")])
    call = 1 if at in _SINGLE_CALL else rng.randint(1, 3)
    arm(faults, at, _CUT, call)
    return f"power cut at {at} {call}"


def _happened(faults: Path) -> list[str]:
    """The faults that happened."""
    records = (json.loads(path.read_text(encoding="utf-8")) for path in faults.glob("done-*"))
    return sorted(f"{fault['do']} at {fault['at']}" for fault in records)


def _outcome(code: int | None, errors: str, out: Path, expected: np.ndarray[Any, Any]) -> str:
    if code is None:
        return "hung"
    if code == 0:
        return "same codes" if np.array_equal(_codes(out), expected) else "other codes"
    has_error_line = any(line.startswith("error: ") for line in errors.splitlines())
    return "refused" if has_error_line and "Traceback" not in errors else "failed"


def _command(
    out: Path, options: Options, faults: Path, disk: PowerDisk | None
) -> tuple[int | None, str]:
    """Train or resume. Returns the exit code, None after a timeout, and stderr."""
    faults.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(_ROOT), FOLDER: str(faults), "OMP_NUM_THREADS": "1"},
        **{"DASK_DISTRIBUTED__WORKER__PRELOAD": '["pipelines.faults.moments"]', **_TIMEOUTS},
    }
    errors = options.out / "stderr.txt"
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [
                *(disk.prefix if disk else ()),
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
            # Background processes ignore SIGINT, and their children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            code = _wait(process, faults, disk)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Stopped workers outlive a killed client.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, errors.read_text(encoding="utf-8", errors="replace")


def _wait(process: subprocess.Popen[bytes], faults: Path, disk: PowerDisk | None) -> int:
    """Wait for a command, and cut the power when it reaches the moment for that."""
    end = time.monotonic() + _TIMEOUT_SECONDS
    while disk and process.poll() is None:
        if f"{_CUT} at" in " ".join(_happened(faults)):
            disk.lose_power()
            break
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return process.wait(max(1, end - time.monotonic()))


def _codes(out: Path) -> np.ndarray[Any, Any]:
    return np.asarray(zarr.open_array(str(out / "codes.zarr"), mode="r")[:])


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m pipelines.faults.soak")))
