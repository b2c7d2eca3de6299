"""Price of TLS in a local cluster: the same training with encrypted and with plain connections.

The two take turns, so that other work on the machine slows both. The figures are wall-clock seconds
of a whole training, and CPU seconds of this process and its workers.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tyro

from srch_dist import build_config, ingest_source, train_model

_KINDS = ("tls", "plain")


@dataclass(frozen=True)
class Options:
    """Measure the price of TLS in a local cluster."""

    rows: int = 8192
    """Rows of the synthetic pairs (256 and 128 dimensions, 64 bits, 3 iterations)."""
    repeats: int = 3
    """Trainings of each kind; the medians are printed."""


def main(options: Options) -> None:
    """Train the shipped emoji pairs and synthetic pairs, and print medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        data = make_pairs(Path(folder), options.rows)
        brief = {"iterations": 3, "threshold": 0.0}
        cases: dict[str, dict[str, Any]] = {
            "emoji": {},
            f"{options.rows:,} synthetic pairs": {"data": data, "bits": 64, "method": brief},
        }
        print("| data | kind | wall s | CPU s |\n|---|---|---|---|")
        for name, values in cases.items():
            report(name, measure(Path(folder), values, options.repeats))


def make_pairs(folder: Path, rows: int) -> str:
    """Write a feature store of two noisy views of the same 24 factors; return its path."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((rows, 24), dtype=np.float32)
    views = {
        name: factors @ rng.standard_normal((24, dims), dtype=np.float32)
        + rng.standard_normal((rows, dims), dtype=np.float32)
        for name, dims in (("image", 256), ("text", 128))
    }
    return ingest_source(views, folder / "pairs.zarr", list(views)).path


def measure(folder: Path, values: dict[str, Any], repeats: int) -> dict[str, list[list[float]]]:
    """Wall-clock and CPU seconds of each training, by kind of connection."""
    found: dict[str, list[list[float]]] = {kind: [] for kind in _KINDS}
    for number in range(repeats):
        for kind in _KINDS:
            out = str(folder / f"{kind}-{number}-{len(list(folder.iterdir()))}")
            config = build_config({"out": out, "report": False, "evaluate": False, **values})
            start, cpu = time.perf_counter(), cpu_seconds()
            with connections(kind):
                train_model(config)
            found[kind].append([time.perf_counter() - start, cpu_seconds() - cpu])
    return found


@contextmanager
def connections(kind: str) -> Iterator[None]:
    """Encrypted connections, as local clusters have them, or plain ones."""
    if kind == "tls":
        yield
        return
    with mock.patch("srch_dist.runtime.local_cluster.one_time_security", return_value=None):
        yield


def cpu_seconds() -> float:
    """CPU seconds of this process and of its workers that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def report(name: str, found: dict[str, list[list[float]]]) -> None:
    """Print the medians of each kind, and the ratio of TLS to plain connections."""
    medians = {
        kind: [statistics.median(one) for one in zip(*measured, strict=True)]
        for kind, measured in found.items()
    }
    for kind, (wall, cpu) in medians.items():
        print(f"| {name} | {kind} | {wall:.1f} | {cpu:.1f} |")
    wall, cpu = (tls / plain for tls, plain in zip(*medians.values(), strict=True))
    print(f"| {name} | ratio | {wall:.2f} | {cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
