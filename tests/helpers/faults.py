"""Shared by the cells of the fault matrix: options, commands, and expected results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from pipelines.faults.moments import FOLDER, disarm, happened
from srch_dist.config.loading import build_config
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.results import RunResults
from srch_dist.train.runner import train_model

ROWS = 300
# Seconds within which a fault must be handled, on a busy machine.
LIMIT = 300
OPTIONS = {
    "partition_rows": 100,
    "blocks": 2,
    "evaluate": False,
    "method": {"iterations": 3, "threshold": 0.0, "loop_bits": 16, "anchors": 40, "directions": 8},
}


@dataclass(frozen=True)
class Clean:
    """Codes and model of an undisturbed run."""

    codes: np.ndarray
    model: dict[str, np.ndarray]

    @classmethod
    def of(cls, run: RunResults) -> Clean:
        """Codes and model of a finished run."""
        with np.load(run.model) as model:
            return cls(codes_of(run.path), {k: model[k] for k in model.files if k != "header"})

    def assert_same(self, out: Path) -> None:
        """Assert that the run at ``out`` finished with the same results and left nothing else."""
        self.assert_same_results(out)
        assert not (out / "work").exists()
        assert not (out / "lock.json").exists()
        assert not list(out.rglob("*.partial"))

    def assert_same_results(self, out: Path) -> None:
        """Assert that the run at ``out`` has the same codes and model."""
        np.testing.assert_array_equal(codes_of(out), self.codes)
        with np.load(out / "model.npz") as found:
            for name, values in self.model.items():
                np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-9)


def codes_of(path: Path) -> np.ndarray:
    return zarr.open_array(str(path / "codes.zarr"), mode="r")[:]


def begin(name: str, *arguments, faults: Path, cwd: Path) -> subprocess.Popen:
    """Start a command in a process that triggers the faults armed in the folder ``faults``."""
    faults.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.faults.client", name, *map(str, arguments)],
        cwd=cwd,
        env={
            **os.environ,
            **{"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            **{FOLDER: str(faults), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "15s",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def end(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Wait for a command and return its output."""
    try:
        output, errors = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def command(name: str, *arguments, faults: Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run a command to its end, then remove all faults."""
    try:
        return end(begin(name, *arguments, faults=faults, cwd=cwd))
    finally:
        disarm(faults)


def options(store: FeatureStore, out: Path) -> list[str]:
    """Command-line arguments for OPTIONS, the data and the run directory."""
    found = ["--data", store.path, "--out", str(out), "--bits", "16", "--graph.k", "5"]
    return found + option_words(OPTIONS)


def option_words(options: dict) -> list[str]:
    """Command-line arguments for options, some of them in sections."""
    found: list[str] = []
    for name, value in options.items():
        section = value if isinstance(value, dict) else {name: value}
        prefix = f"--{name}." if isinstance(value, dict) else "--"
        for key, one in section.items():
            if isinstance(one, bool):
                found.append(f"{prefix}{key}" if one else f"{prefix}no-{key}")
            else:
                found += [f"{prefix}{key}", str(one)]
    return found


def await_fault(faults: Path) -> None:
    """Wait until an armed fault has happened."""
    limit = time.monotonic() + LIMIT
    while not happened(faults):
        assert time.monotonic() < limit
        time.sleep(0.05)


def message(done: subprocess.CompletedProcess) -> str:
    """The error line of a command; asserts that there is exactly one and no traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return errors[0]


def table(cells: Iterable[tuple[str, str]]) -> list[str]:
    """Markdown table of (fault, outcome) cells: counts by fault and outcome, and their total."""
    counts: dict[str, Counter[str]] = {}
    for fault, outcome in cells:
        counts.setdefault(fault, Counter())[outcome] += 1
    columns = ["survived", "refused"]
    if any("otherwise" in count for count in counts.values()):
        columns.append("otherwise")
    rows = [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]
    return [
        f"| fault | tried | {' | '.join(columns)} |",
        f"|{'---|' * (2 + len(columns))}",
        *(
            f"| {name} | {count.total()} | {' | '.join(str(count[c] or '') for c in columns)} |"
            for name, count in rows
        ),
    ]


def train(store, out: Path, cluster, **changes):
    values = {
        **{"data": store.path, "out": str(out), "bits": 16, "graph": {"k": 5}},
        **{**OPTIONS, "scheduler": cluster.address, **changes},
    }
    return train_model(build_config(values))
