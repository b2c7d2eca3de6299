"""Compare SRCH with every baseline on paired features, in one table.

    python -m pipelines.compare.run STORE [STORE ...] --bits 16 32 64 128 --seeds 5 --out FOLDER

STORE is a feature store, or an .npz to ingest first, with labels and a split. Results are
``results.json`` (all fits) and ``results.md`` (tables), rewritten after each data set. Finished
methods are cached in ``parts/``; ``--resume`` reuses them.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

import srch_dist
from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError, SrchError

from . import baselines
from .baselines.protocol import CodeModel, DistanceModel, Method
from .data import RetrievalTask, open_source
from .encoders import CommonEncoders
from .engine import Engine, open_engine
from .grids import DETERMINISTIC, GRIDS, SRCH, method_names
from .pool import map_sets
from .published import published_records
from .result_cache import Record, ResultCache, source_digest
from .scoring import Measures, score_model
from .table import ENCODERS, best_points, markdown


@dataclass(frozen=True)
class Options:
    """Compare SRCH with every baseline."""

    stores: Annotated[list[Path], tyro.conf.Positional]
    """Feature stores, or .npz files to ingest first."""
    out: Path
    """Folder for results.json and results.md."""
    bits: list[int] = field(default_factory=lambda: [16, 32, 64, 128])
    """Code lengths, multiples of 8."""
    seeds: int = 5
    """Number of seeds, from 0. Grids are searched with seed 0."""
    methods: list[str] | None = None
    """Names of the methods (table rows). Default: all."""
    workers: int = 1
    """Worker processes of the local cluster that trains SRCH."""
    scheduler: str | None = None
    """Address of a running Dask scheduler. Default: a local cluster."""
    jobs: int = 1
    """Data sets that run in parallel, in one process each."""
    resume: bool = False
    """Reuse finished methods in parts/ of the folder if data, options and code are the same."""


@dataclass(frozen=True)
class Bench:
    """Runs the methods on one data set at one code length."""

    task: RetrievalTask
    encoders: CommonEncoders
    engine: Engine
    bits: int

    def run_srch(self, name: str, seeds: int) -> list[Record]:
        """Records of an SRCH preset with every seed; a refused run's record holds the error."""
        records = []
        for seed in range(seeds):
            base = self._base(name, SRCH[name], seed) | {"best_for": list(ENCODERS)}
            try:
                run = self.engine.train(self.task, SRCH[name] | {"bits": self.bits, "seed": seed})
            except SrchError as error:
                records.append(base | {"error": str(error)})
                continue
            scores = {"own": run.scores} | self.encoders.scores(run.codes)
            if run.encoder in scores:
                scores[run.encoder] = run.scores
            measured = {"fit_seconds": round(run.fit_seconds, 3), "peak_bytes": run.peak_bytes}
            records.append(base | measured | {"scores": scores})
        return records

    def run_grid(self, grid: tuple[Method, ...], seeds: int) -> list[Record]:
        """Records of a baseline's grid with seed 0, and of its best points with the other seeds.

        The best point of each encoder has the highest test MAP, mean of both directions.
        """
        records = [self._run_point(method, 0, ENCODERS) for method in grid]
        best = best_points(records)
        for record, method in list(zip(records, grid, strict=True)):
            record["best_for"] = [name for name, point in best.items() if point is record]
            if not record["best_for"] or "error" in record:
                continue
            record["peak_bytes"] = _peak_bytes(partial(self._fit, method, 0))
            for seed in range(1, 1 if method.name in DETERMINISTIC else seeds):
                rerun = self._run_point(method, seed, tuple(record["best_for"]))
                records.append(rerun | {"best_for": record["best_for"]})
        return records

    def _run_point(self, method: Method, seed: int, encoders: tuple[str, ...]) -> Record:
        """Fit one point and score it with ``encoders``; a failed fit's record holds the error."""
        base = self._base(method.name, asdict(method), seed)  # type: ignore[call-overload]
        base["supervised"] = method.supervised
        start = time.perf_counter()
        try:
            model = self._fit(method, seed)
        except (ValueError, RuntimeError) as error:
            return base | {"error": str(error)}
        seconds = time.perf_counter() - start
        base |= {"fit_seconds": round(seconds, 3), "real": not isinstance(model, CodeModel)}
        return base | {"scores": self._scores(model, encoders)}

    def _scores(
        self, model: CodeModel | DistanceModel, encoders: tuple[str, ...]
    ) -> dict[str, Measures]:
        scores = {"own": score_model(self.task, model)} if "own" in encoders else {}
        if isinstance(model, CodeModel) and model.train_codes is not None:
            common = self.encoders.scores(model.train_codes) if set(encoders) - {"own"} else {}
            scores |= {name: common[name] for name in encoders if name in common}
        return scores

    def _fit(self, method: Method, seed: int) -> CodeModel | DistanceModel:
        labels = self.task.class_indicators if method.supervised else None
        return method.fit(self.task.train, self.bits, seed, labels)

    def _base(self, name: str, parameters: dict[str, Any], seed: int) -> Record:
        return {
            "set": self.task.name,
            "bits": self.bits,
            "method": name,
            "seed": seed,
            "parameters": parameters,
            "directions": [f"{g} → {h}" for g, h in self.task.directions],
            "supervised": False,
            "real": False,
        }


def run_all(options: Options) -> list[Record]:
    """Run every combination, save after each data set, and return all records."""
    methods = _chosen_methods(options)
    names = [source.stem for source in options.stores]
    if len(set(names)) < len(names):
        raise ConfigError(f"stores have equal names: {', '.join(sorted(names))}. Rename one.")
    if options.jobs < 1:
        raise ConfigError(f"--jobs is {options.jobs}. It must be at least 1.")
    (options.out / "parts").mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    for set_records in map_sets(partial(_run_set, options, methods), options.stores, options.jobs):
        records += set_records
        _save(options, records)
    return records


def _run_set(options: Options, methods: list[str], source: Path) -> list[Record]:
    """Records of every code length and method on one data set, cached by method in ``parts/``."""
    records: list[Record] = []
    with open_engine(options.workers, options.scheduler) as engine:
        task = RetrievalTask.load(open_source(source, engine.scratch))
        bench = Bench(task, CommonEncoders(task), engine, 0)
        inputs = {name: _inputs(task, name, options.seeds) for name in methods}
        for bits in options.bits:
            cache = ResultCache(options.out / "parts" / f"{task.name}-{bits}.json")
            if not options.resume:
                cache.clear()
            jobs = _jobs(replace(bench, bits=bits), options.seeds)
            for name in methods:
                compute = partial(_timed, jobs[name], name, bits)
                records += cache.get_or_compute(name, inputs[name], compute)
    return records


def _inputs(task: RetrievalTask, name: str, seeds: int) -> Record:
    """Everything that the records of a method depend on: data, seeds, options and code."""
    if name in SRCH:
        options, code = repr(build_config(dict(SRCH[name])).method), Path(srch_dist.__file__)
    else:
        options = repr(next(grid for grid in GRIDS if grid[0].name == name))
        code = Path(baselines.__file__)
    return {
        "data": dict(task.store.checksums),
        "seeds": seeds,
        "options": options,
        "code": source_digest(code.parent),
    }


def _jobs(bench: Bench, seeds: int) -> dict[str, Callable[[], list[Record]]]:
    return {
        **{name: partial(bench.run_srch, name, seeds) for name in SRCH},
        **{grid[0].name: partial(bench.run_grid, grid, seeds) for grid in GRIDS},
    }


def _timed(work: Callable[[], list[Record]], name: str, bits: int) -> list[Record]:
    start = time.perf_counter()
    records = work()
    seconds = time.perf_counter() - start
    print(f"{records[0]['set']}: bits={bits} method={name!r} seconds={seconds:.0f}", flush=True)
    return records


def _chosen_methods(options: Options) -> list[str]:
    names = method_names()
    unknown = set(options.methods or []) - set(names)
    if unknown:
        raise ConfigError(f"unknown methods {sorted(unknown)}. Known methods: {', '.join(names)}.")
    if any(bits < 8 or bits % 8 for bits in options.bits):
        raise ConfigError(f"--bits is {options.bits}. Each must be a positive multiple of 8.")
    if options.seeds < 1:
        raise ConfigError(f"--seeds is {options.seeds}. It must be at least 1.")
    return [name for name in names if options.methods is None or name in options.methods]


def _peak_bytes(work: Callable[[], object]) -> int | None:
    """Peak memory that Python and NumPy allocate during ``work``, in bytes (tracemalloc)."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _save(options: Options, records: list[Record]) -> None:
    results = {"seeds": options.seeds, "records": records, "published": published_records()}
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (options.out / "results.md").write_text(markdown(records), "utf-8")


def main() -> None:
    """Run the comparison, save and print the tables."""
    options = tyro.cli(Options)
    try:
        records = run_all(options)
    except SrchError as error:
        raise SystemExit(f"error: {error}") from None
    print(markdown(records))


if __name__ == "__main__":
    main()
