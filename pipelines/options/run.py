"""`python -m pipelines.options.run`: train the emoji set with each option changed, one by one.

A value is held against the default beside it, seed by seed: what it does to MAP, to the recall of
the partner, to the number of iterations, and how many bits of the codes differ. Results are kept
case by case in a file, so that the command goes on where it was stopped.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import dask
import numpy as np
import tyro
from numpy.typing import NDArray

from pipelines.options.cases import CASES, Case
from srch_dist.config.loading import build_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import TrainingError
from srch_dist.ingest.shipped import shipped_store
from srch_dist.runtime.cluster import Cluster
from srch_dist.storage import arrays
from srch_dist.train.runner import Trained, train_model
from srch_dist.train.setup import SharedResources

RESULTS = Path(__file__).with_name("results.json")
# Of the cluster rather than of the run: these are tried with a cluster of their own.
_OF_THE_CLUSTER = ("workers", "memory_limit")


@dataclass(frozen=True)
class _Options:
    """Measure the effect of options on the shipped emoji set."""

    only: tuple[str, ...] = ()
    """Options to measure; all that are not in the file yet when absent."""
    seeds: int = 3
    """Runs of each value, with seeds from 0 on."""
    out: Path = RESULTS
    """File of the results."""


@dataclass(frozen=True)
class _Figures:
    """What one run came to: scores, mean over directions, and codes; an error in their place."""

    scores: Mapping[str, float]
    codes: NDArray[np.uint8] | None
    error: str | None = None


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options by section, as `build_config` takes them, from those by name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        section, _, option = name.rpartition(".")
        (found.setdefault(section, {}) if section else found)[option] = value
    return found


def measure_case(
    case: Case, seeds: int, data: str, cluster: Cluster, bases: dict[str, list[_Figures]]
) -> list[dict[str, Any]]:
    """A record for each value of a case: means over seeds, and differences from its base.

    ``bases`` keeps the runs that values are held against, for cases that have the same.
    """
    key, records = json.dumps(case.beside, sort_keys=True), []
    if key not in bases:
        bases[key] = [_train({**case.beside, "seed": seed}, data, cluster) for seed in range(seeds)]
    base = bases[key]
    for value in case.values:
        tried = {**case.beside, case.option: value}
        runs = [_train({"seed": seed, **tried}, data, cluster) for seed in range(seeds)]
        record = {"value": value, "beside": dict(case.beside), "seeds": seeds}
        records.append(record | _compare(base, runs))
    return records


def _compare(base: list[_Figures], runs: list[_Figures]) -> dict[str, Any]:
    if errors := [run.error for run in runs if run.error]:
        return {"error": errors[0]}
    record: dict[str, Any] = {
        name: fmean(run.scores[name] for run in runs) for name in runs[0].scores
    }
    record |= {f"{name}_base": fmean(run.scores[name] for run in base) for name in runs[0].scores}
    differing = [
        float(np.unpackbits(one.codes ^ other.codes).mean())
        for one, other in zip(base, runs, strict=True)
        if one.codes is not None and other.codes is not None
        if one.codes.shape == other.codes.shape
    ]
    record["differing_bits"] = fmean(differing) if differing else None
    return record


def _train(options: Mapping[str, Any], data: str, cluster: Cluster) -> _Figures:
    with tempfile.TemporaryDirectory() as folder:
        config = build_config(nested({"data": data, "out": f"{folder}/run", **options}))
        own = any(name in options for name in _OF_THE_CLUSTER)
        try:
            trained = train_model(config, shared=None if own else SharedResources(cluster))
        except TrainingError as error:
            return _Figures({}, None, str(error))
        return _figures(trained, config)


def _figures(trained: Trained, config: TrainConfig) -> _Figures:
    summary, found = trained.run.summary(), trained.evaluation
    if found is None:
        raise RuntimeError(f"{config.data} has no queries")
    history = trained.run.history()
    graphs = summary["graph"]["modalities"].values()
    scores = {
        "map": fmean(found["map"].values()),
        "pair_recall_10": fmean(pair["10"] for pair in found["pair_recall"].values()),
        "graph_recall": fmean(graph["recall"] for graph in graphs),
        "iterations": summary["iterations"],
        "cg_iterations": sum(record["cg_iterations"] for record in history),
    }
    return _Figures(scores, arrays.read_rows(trained.run.codes))


def main() -> None:
    """Measure with options from the command line."""
    options = tyro.cli(_Options, prog="python -m pipelines.options.run")
    results: dict[str, Any] = {}
    bases: dict[str, list[_Figures]] = {}
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    # In this process, whose tasks are those of workers: the set is small.
    cluster = Cluster(1, 2 << 30)
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        data = shipped_store(Path(folder)).path
        for case in CASES:
            if case.option not in (options.only or {one.option for one in CASES} - set(results)):
                continue
            results[case.option] = measure_case(case, options.seeds, data, cluster, bases)
            text = json.dumps(results, indent=1, sort_keys=True)
            options.out.write_text(text + "\n", encoding="utf-8")
            print(case.option, json.dumps(results[case.option]), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
