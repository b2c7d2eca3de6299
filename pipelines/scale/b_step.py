"""Benchmark of the B-step alone, against its floors: reading only and products only.

    python -m pipelines.scale.b_step --rows 250000 --out b_step.json

Features are random. All variants alternate in the same workers, so that other load on the machine
affects them equally.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from srch_dist import build_config
from srch_dist.algorithm.b_step import b_step
from srch_dist.algorithm.features.reader import load_features
from srch_dist.algorithm.features.row_order import create_codes
from srch_dist.algorithm.job import Job
from srch_dist.kernels.code_basis import first_basis
from srch_dist.kernels.code_update import CodeRule
from srch_dist.plan.planner import draft_plan
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.cluster import connect
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

_GEMM_ROWS = 8192


@dataclass(frozen=True)
class Options:
    """Time one pass of the B-step over two modalities."""

    out: Path
    """JSON file for the result."""
    rows: int = 250_000
    """Number of rows."""
    dims: int = 512
    """Dimensions of each modality."""
    bits: int = 64
    """Bits per code."""
    repeats: int = 5
    """Runs of each variant. The result holds medians."""
    workers: int = 2
    """Worker processes."""
    memory_limit: str = "4GiB"
    """Memory per worker. It must hold the features: one variant caches them in the workers."""


def measure(options: Options) -> dict[str, Any]:
    """Time every variant.

    Returns
    -------
    dict
        ``seconds``: median by variant. ``share``: slower floor over pass. ``share, features
        kept``: products over pass, with features cached in the workers.
    """
    dims = {"image": options.dims, "text": options.dims}
    method = {"directions": 0}
    config = build_config(
        {"bits": options.bits, "precision": "float32", "cache": "off", "method": method}
    )
    columns = config.embedding_columns
    with (
        tempfile.TemporaryDirectory(dir=options.out.parent) as folder,
        connect(None, options.workers, options.memory_limit) as cluster,
    ):
        run = RunDirectory(Path(folder))
        plan = draft_plan(options.rows, dims, config, cluster)
        _write(run, plan, dims, (options.bits, columns))
        rng = np.random.default_rng(0)
        rule = CodeRule(
            {g: rng.standard_normal((options.bits, d)) for g, d in dims.items()},
            np.zeros(options.bits),
            1.0,
            first_basis(options.bits, columns) if columns < options.bits else None,
        )
        names = tuple(dims)
        job = Job(run, plan, config, names)
        cached = replace(job, plan=replace(plan, cached=True))
        cache = load_features(cached)
        spans = [[plan.span(p) for p in partitions] for partitions in plan.passes]
        variants: dict[str, Callable[[], object]] = {
            "read": lambda: tasks.run_all([tasks.task(_read, run, names, part) for part in spans]),
            "products": lambda: tasks.run_all(
                [
                    tasks.task(_multiply, options.rows // cluster.workers, options)
                    for _ in range(cluster.workers)
                ]
            ),
            "pass": lambda: b_step(job, 1, rule),
            "pass, features kept": lambda: b_step(cached, 1, rule, cache),
        }
        seconds = _alternate(variants, options.repeats)
    floor = max(seconds["read"], seconds["products"])
    return {
        "rows": options.rows,
        "partitions": len(plan.partitions),
        "seconds": seconds,
        "share": floor / seconds["pass"],
        "share, features kept": seconds["products"] / seconds["pass, features kept"],
    }


def _alternate(variants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds by variant, without the first round, which warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + 1):
        for name, function in variants.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def _write(run: RunDirectory, plan: Plan, dims: dict[str, int], widths: tuple[int, int]) -> None:
    """Write random features, Z of iteration 1 and codes of iteration 0.

    ``widths`` are the bits of the codes and the columns of Z.
    """
    bits, columns = widths
    for g, d in dims.items():
        arrays.create_array(run.features(g), (plan.rows, d), plan.partition_rows, np.float32)
    z = run.checkpoint(1, "z")
    arrays.create_array(z, (plan.rows, columns), plan.partition_rows, np.float32)
    create_codes(run, plan, bits, 0)
    spans = [plan.span(p) for p in plan.partitions]
    tasks.run_all([tasks.task(_fill, run, dims, span, widths) for span in spans])


def _fill(
    run: RunDirectory, dims: dict[str, int], span: tuple[int, int], widths: tuple[int, int]
) -> None:
    bits, columns = widths
    rng = np.random.default_rng(span[0])
    rows = span[1] - span[0]
    for g, d in dims.items():
        values = rng.standard_normal((rows, d), dtype=np.float32)
        arrays.write_rows(run.features(g), span[0], values)
    z = rng.standard_normal((rows, columns), dtype=np.float32)
    arrays.write_rows(run.checkpoint(1, "z"), span[0], z)
    codes = rng.integers(0, 256, (rows, bits // 8), dtype=np.uint8)
    arrays.write_rows(run.checkpoint(0, "codes"), span[0], codes)


def _read(run: RunDirectory, names: tuple[str, ...], spans: list[tuple[int, int]]) -> None:
    for span in spans:
        for g in names:
            arrays.read_rows(run.features(g), *span)
        arrays.read_rows(run.checkpoint(1, "z"), *span)


def _multiply(rows: int, options: Options) -> None:
    """Multiply as the B-step does: X W and Xᵀ B of two modalities, over ``rows`` rows."""
    size = min(rows, _GEMM_ROWS)
    x = np.ones((size, options.dims), dtype=np.float32)
    w = np.ones((options.dims, options.bits), dtype=np.float32)
    b = np.ones((size, options.bits), dtype=np.float32)
    for _ in range(2 * rows // size):
        np.matmul(x, w)
        np.matmul(x.T, b)


def main() -> None:
    """Measure, write the result and print it."""
    options = tyro.cli(Options)
    text = json.dumps(measure(options), indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
