"""Every method on any paired features, as one table.

    python -m pipelines.compare.run STORE [STORE ...] --bits 16 32 64 128 --seeds 5 --out FOLDER

STORE is a feature store, or an .npz that is ingested first; it needs labels and a split. Results
go to ``results.json`` (every single fit) and ``results.md`` (the table), renewed after each set.
What is finished of a set lies in ``parts/``: with ``--resume`` it is not run again.
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
from .parts import Parts, Record, source_digest
from .pool import map_sets
from .published import published_records
from .scoring import Measures, score_model
from .table import ENCODERS, best_points, markdown


@dataclass(frozen=True)
class Options:
    """Compare SRCH with every baseline."""

    stores: Annotated[list[Path], tyro.conf.Positional]
    """Feature stores, or .npz files that are ingested first."""
    out: Path
    """Folder for results.json and results.md."""
    bits: list[int] = field(default_factory=lambda: [16, 32, 64, 128])
    """Code lengths, multiples of 8."""
    seeds: int = 5
    """Seeds 0 … n - 1; grids are searched with seed 0."""
    methods: list[str] | None = None
    """Rows of the table by name; all when absent."""
    workers: int = 1
    """Worker processes of the cluster that SRCH runs on."""
    scheduler: str | None = None
    """Address of a running Dask scheduler instead."""
    jobs: int = 1
    """Sets worked on at once, in processes of their own."""
    resume: bool = False
    """Take what is finished from the folder's parts/, where data, options and code agree."""


@dataclass(frozen=True)
class Bench:
    """One data set at one code length."""

    task: RetrievalTask
    encoders: CommonEncoders
    engine: Engine
    bits: int

    def run_srch(self, name: str, seeds: int) -> list[Record]:
        """A preset of SRCH with every seed; a refused run gives a record that says why."""
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
        """A baseline's grid with seed 0, then its best points with the other seeds.

        The best point is chosen for each encoder by the test MAP, mean of both directions.
        """
        records = [self._run_point(method, 0, ENCODERS) for method in grid]
        best = best_points(records)
        for record, method in list(zip(records, grid, strict=True)):
            record["best_for"] = [name for name, point in best.items() if point is record]
            if not record["best_for"] or "error" in record:
                continue
            record["peak_bytes"] = _peak_bytes(partial(self._fit, method, 0))
            for seed in range(1, 1 if method.name in DETERMINISTIC else seeds):
                again = self._run_point(method, seed, tuple(record["best_for"]))
                records.append(again | {"best_for": record["best_for"]})
        return records

    def _run_point(self, method: Method, seed: int, encoders: tuple[str, ...]) -> Record:
        """Fit one point and score it with ``encoders``; what cannot be fitted says why."""
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
    """Run every combination, save after each set, and return every record."""
    wanted = _chosen_methods(options)
    names = [source.stem for source in options.stores]
    if len(set(names)) < len(names) or options.jobs < 1:
        raise ConfigError("stores need names of their own, and jobs have to be at least 1")
    (options.out / "parts").mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    for found in map_sets(partial(_run_set, options, wanted), options.stores, options.jobs):
        records += found
        _save(options, records)
    return records


def _run_set(options: Options, wanted: list[str], source: Path) -> list[Record]:
    """Every width and method of one set; each method is kept in ``parts/`` when it is done."""
    records: list[Record] = []
    with open_engine(options.workers, options.scheduler) as engine:
        task = RetrievalTask.load(open_source(source, engine.scratch))
        bench = Bench(task, CommonEncoders(task), engine, 0)
        asked = {name: _asked(task, name, options.seeds) for name in wanted}
        for bits in options.bits:
            parts = Parts(options.out / "parts" / f"{task.name}-{bits}.json")
            if not options.resume:
                parts.forget()
            jobs = _jobs(replace(bench, bits=bits), options.seeds)
            for name in wanted:
                records += parts.take(name, asked[name], partial(_timed, jobs[name], name, bits))
    return records


def _asked(task: RetrievalTask, name: str, seeds: int) -> Record:
    """What a finished method has to agree with: data, seeds, options and code."""
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
    print(f"{records[0]['set']}, {bits} bits, {name}: {seconds:.0f} s", flush=True)
    return records


def _chosen_methods(options: Options) -> list[str]:
    names = method_names()
    unknown = set(options.methods or []) - set(names)
    if unknown:
        raise ConfigError(f"unknown methods {sorted(unknown)}; known: {', '.join(names)}")
    if any(bits < 8 or bits % 8 for bits in options.bits) or options.seeds < 1:
        raise ConfigError("bits have to be positive multiples of 8, and seeds at least 1")
    return [name for name in names if options.methods is None or name in options.methods]


def _peak_bytes(work: Callable[[], object]) -> int | None:
    """Most that Python and NumPy hold at once during ``work``, beyond what was there before."""
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
    """Run, save and print the table."""
    options = tyro.cli(Options)
    try:
        records = run_all(options)
    except SrchError as error:
        raise SystemExit(f"error: {error}") from None
    print(markdown(records))


if __name__ == "__main__":
    main()
