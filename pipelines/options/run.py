"""Measure the effect of options: train the emoji set with one option changed at a time.

    python -m pipelines.options.run [--only OPTION ...]

Each value is compared with its base run, seed by seed: MAP, recall of the paired row, graph recall,
iterations, and share of differing code bits. Results are saved after each case, so that a repeated
command continues with the missing options.
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
# Options of the cluster, not of the run: their cases start a local cluster.
_CLUSTER_OPTIONS = ("workers", "memory_limit")


@dataclass(frozen=True)
class _Options:
    """Measure the effect of options on the shipped emoji set."""

    only: tuple[str, ...] = ()
    """Options to measure. Default: all that the file does not have yet."""
    seeds: int = 3
    """Runs of each value, with seeds from 0."""
    out: Path = RESULTS
    """JSON file of the results."""


@dataclass(frozen=True)
class _Outcome:
    """Result of one run: scores (means over directions) and codes, or an error."""

    scores: Mapping[str, float]
    codes: NDArray[np.uint8] | None
    error: str | None = None


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert options by dotted name (``graph.k``) to the nested form of `build_config`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        section, _, option = name.rpartition(".")
        (result.setdefault(section, {}) if section else result)[option] = value
    return result


def measure_case(
    case: Case, seeds: int, data: str, cluster: Cluster, bases: dict[str, list[_Outcome]]
) -> list[dict[str, Any]]:
    """Measure every value of a case.

    Parameters
    ----------
    case : Case
    seeds : int
        Runs per value.
    data : str
        Feature store.
    cluster : Cluster
    bases : dict
        Cache of the base runs; cases with the same ``beside`` share them.

    Returns
    -------
    list of dict
        One record per value: means over seeds, also of the base, and the share of differing bits.
    """
    key, records = json.dumps(case.beside, sort_keys=True), []
    if key not in bases:
        bases[key] = [_train({**case.beside, "seed": seed}, data, cluster) for seed in range(seeds)]
    base = bases[key]
    for value in case.values:
        options = {**case.beside, case.option: value}
        runs = [_train({"seed": seed, **options}, data, cluster) for seed in range(seeds)]
        record = {"value": value, "beside": dict(case.beside), "seeds": seeds}
        records.append(record | _compare(base, runs))
    return records


def _compare(base: list[_Outcome], runs: list[_Outcome]) -> dict[str, Any]:
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


def _train(options: Mapping[str, Any], data: str, cluster: Cluster) -> _Outcome:
    with tempfile.TemporaryDirectory() as folder:
        config = build_config(nested({"data": data, "out": f"{folder}/run", **options}))
        local = any(name in options for name in _CLUSTER_OPTIONS)
        try:
            trained = train_model(config, shared=None if local else SharedResources(cluster))
        except TrainingError as error:
            return _Outcome({}, None, str(error))
        return _outcome(trained, config)


def _outcome(trained: Trained, config: TrainConfig) -> _Outcome:
    summary, evaluation = trained.run.summary(), trained.evaluation
    if evaluation is None:
        raise RuntimeError(f"{config.data} has no queries. Pass data with a split.")
    history = trained.run.history()
    graphs = summary["graph"]["modalities"].values()
    scores = {
        "map": fmean(evaluation["map"].values()),
        "pair_recall_10": fmean(pair["10"] for pair in evaluation["pair_recall"].values()),
        "graph_recall": fmean(graph["recall"] for graph in graphs),
        "iterations": summary["iterations"],
        "cg_iterations": sum(record["cg_iterations"] for record in history),
    }
    return _Outcome(scores, arrays.read_rows(trained.run.codes))


def main() -> None:
    """Run the command."""
    options = tyro.cli(_Options, prog="python -m pipelines.options.run")
    results: dict[str, Any] = {}
    bases: dict[str, list[_Outcome]] = {}
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    # Tasks run in this process: the data set is small.
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
