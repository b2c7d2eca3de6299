"""Benchmark training at scale: one command writes JSON, Markdown tables and plots.

    python -m pipelines.scale.run all --out FOLDER --npz icons151k.npz
    python -m pipelines.scale.run b-step --out FOLDER --sizes 250000 --repeats 3
    python -m pipelines.scale.run draw --out docs/figures/scale    # measures nothing

Every run of srch_dist ("engine") and of the in-memory reference has its own process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from srch_dist import ingest_source, open_store

from .figures import FIGURES, figures, markdown
from .manifolds import Manifolds, write_store
from .plots import RUNS, draw, load_runs, redraw
from .processes import run_module
from .runs import short, table

Record = dict[str, Any]
Figure = Literal["all", "knn", "cg", "b-step", "training", "growth", "plan", "draw"]


@dataclass(frozen=True)
class Options:
    """Measure training at several sizes against an in-memory reference and hardware floors."""

    figure: Annotated[Figure, tyro.conf.Positional]
    """What to measure: one figure, or all. draw measures nothing and draws the plots again."""
    out: Path
    """Folder for data, results.json, runs.json, results.md and plots. Existing data is reused."""
    sizes: list[int] | None = None
    """Training rows of generated data. Each figure has its own default."""
    npz: Path | None = None
    """Real pairs in an .npz that srch_dist.ingest reads, with labels and a split."""
    dims: int = 512
    """Dimensions of each of the two generated modalities."""
    queries: int = 2000
    """Queries of generated data, at most a tenth of the rows."""
    repeats: int = 3
    """Runs of each. The tables show medians."""
    reference: bool = True
    """Run the in-memory reference if the figure needs it."""
    reference_rows: int = 1_000_000
    """Skip the reference above this number of training rows."""
    reference_threads: int = 1
    """Threads of the reference, in NumPy and in pynndescent."""
    workers: int = 2
    """Worker processes of the engine."""
    memory_limit: str = "2GiB"
    """Memory per worker."""
    options: str = field(default="{}")
    """Options of the runs as JSON, nested as in a YAML file."""
    resume: bool = False
    """Reuse finished runs of an earlier call in the folder. Their options are not compared."""
    records: Path = Path("pipelines/scale")
    """Folder of the runs.json and residuals.json that draw reads. Default: those of the docs."""


def run_all(options: Options) -> list[Record]:
    """Run engine and reference at every size, save after each, and return the records."""
    options.out.mkdir(parents=True, exist_ok=True)
    defaults = FIGURES[options.figure]
    records = []
    for name, store in _stores(options, defaults.sizes):
        values = _values(defaults.options, json.loads(options.options))
        rows = int(np.count_nonzero(open_store(store).read("split") == 0))
        runs = [_engine(options, name, store, values, i) for i in range(options.repeats)]
        record: Record = {"data": name, "engine": median_of(runs), "reference": None}
        if defaults.reference and options.reference and rows <= options.reference_rows:
            runs = [_reference(options, name, store, values, i) for i in range(options.repeats)]
            record["reference"] = median_of(runs)
        records.append(record)
        _save(options, records)
    return records


def _stores(options: Options, default: tuple[int, ...]) -> list[tuple[str, Path]]:
    """Feature stores with their names; missing ones are generated or ingested."""
    stores = []
    for rows in options.sizes if options.sizes is not None else default:
        queries = min(options.queries, max(1, rows // 10))
        path = options.out / f"manifolds-{rows}x{options.dims}.zarr"
        if not path.exists():
            source = Manifolds({"image": options.dims, "text": options.dims})
            write_store(path, rows + queries, queries, source)
        stores.append((f"{rows}", path))
    if options.npz is not None:
        path = options.out / f"{options.npz.stem}.zarr"
        if not path.exists():
            ingest_source(options.npz, path)
        stores.append((options.npz.stem, path))
    return stores


def _values(*overrides: dict[str, Any]) -> dict[str, Any]:
    """Options of the runs: those that the reference implements, then ``overrides`` in order."""
    method = {"weights": "equal", "rotate": False, "directions": 0, "encoder": "ridge"}
    values: dict[str, Any] = {"bits": 64, "method": method}
    for override in overrides:
        for name, value in override.items():
            nested = isinstance(value, dict)
            values[name] = {**values.get(name, {}), **value} if nested else value
    return values


def _engine(
    options: Options, name: str, store: Path, values: dict[str, Any], repeat: int
) -> Record:
    print(f"{name}: engine, run {repeat + 1} of {options.repeats}", flush=True)
    arguments = {
        "store": store,
        "workers": options.workers,
        "memory-limit": options.memory_limit,
        "options": json.dumps(values),
    }
    out = options.out / f"engine-{name}-{repeat}.json"
    return _run("pipelines.scale.engine", arguments, out, 1, options.resume)


def _reference(
    options: Options, name: str, store: Path, values: dict[str, Any], repeat: int
) -> Record:
    print(f"{name}: reference, run {repeat + 1} of {options.repeats}", flush=True)
    used = {key: value for key, value in values.items() if key in ("bits", "seed", "method")}
    arguments = {"store": store, "jobs": options.reference_threads, "options": json.dumps(used)}
    out = options.out / f"reference-{name}-{repeat}.json"
    threads = options.reference_threads
    return _run("pipelines.scale.reference_run", arguments, out, threads, options.resume)


def _run(module: str, arguments: dict[str, Any], out: Path, threads: int, resume: bool) -> Record:
    if resume and out.exists():
        record: Record = json.loads(out.read_text(encoding="utf-8"))
        return record
    return run_module(module, arguments, out, threads)


def median_of(runs: list[Any]) -> Any:
    """Merge records of equal structure: medians of numbers, the first of everything else."""
    first = runs[0]
    if isinstance(first, dict):
        return {key: median_of([run[key] for run in runs if key in run]) for key in first}
    if isinstance(first, list) and all(len(run) == len(first) for run in runs):
        return [median_of(list(items)) for items in zip(*runs, strict=True)]
    if isinstance(first, bool) or not isinstance(first, int | float):
        return first
    middle = float(np.median(runs))
    return int(middle) if isinstance(first, int) and middle.is_integer() else middle


def _save(options: Options, records: list[Record]) -> None:
    """Write the results so far, so that an interrupted series keeps them."""
    rows = figures(records)
    today = datetime.now(UTC).date().isoformat()
    runs = {"measured": today, "runs": [short(record) for record in records]}
    (options.out / RUNS).write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    results = {
        "figure": options.figure,
        "repeats": options.repeats,
        "reference_threads": options.reference_threads,
        "records": records,
        "figures": rows,
    }
    text = json.dumps(results, indent=1) + "\n"
    (options.out / "results.json").write_text(text, encoding="utf-8")
    (options.out / "results.md").write_text(markdown(records, rows), encoding="utf-8")


def _draw_again(options: Options) -> None:
    """Draw the plots of the records, and print the table of the runs."""
    names = redraw(options.records, options.out)
    if not names:
        raise SystemExit(
            f"error: {options.records} has no runs.json and no residuals.json. "
            "Pass their folder as --records."
        )
    if (options.records / RUNS).exists():
        print(table(load_runs(options.records)))
    print(f"drawn: {', '.join(names)}")


def main() -> None:
    """Measure, write results and plots, and print the tables; or draw the plots again."""
    options = tyro.cli(Options)
    if options.figure == "draw":
        _draw_again(options)
        return
    if options.repeats < 1:
        raise SystemExit(f"error: --repeats is {options.repeats}. It must be at least 1.")
    records = run_all(options)
    if not records:
        raise SystemExit(f"error: {options.figure} has no default data. Pass --sizes or --npz.")
    draw([short(record) for record in records], options.out)
    print(markdown(records, figures(records)))


if __name__ == "__main__":
    main()
