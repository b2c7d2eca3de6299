"""A run for every combination of a grid of options; those with the same graph share it.

```
runs/NAME            a run directory each
results/NAME.json    how it went: written when the run is done, so that it is not done again
prepared/FINGERPRINT features and graph of the runs under way; removed after the last of them
results.json, .csv   a row a run; sweep.png the same as a plot (see `sweep_results`)
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from srch_dist.config.identity import differing_options, fingerprint, up_to_graph
from srch_dist.config.loading import check_config, load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, InputError, PlanError, TrainingError
from srch_dist.ingest.shipped import shipped_store
from srch_dist.plan.planner import check_memory, draft_plan
from srch_dist.runtime.cluster import Cluster, ClusterRequirements, connect, tls_files
from srch_dist.runtime.progress import Progress, silent, without_tables
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import read_json, write_json
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import local_path, locate
from srch_dist.storage.locks.run_lock import hold_lock
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.sweep.grid import Combination, Grid, combine
from srch_dist.sweep.results import Row, make_row, write_results
from srch_dist.train.rows import choose_rows
from srch_dist.train.runner import prepare_run, train_model
from srch_dist.train.setup import SharedResources


def sweep_options(
    config: TrainConfig, grid: Grid, out: str | Path, progress: Progress | None = None
) -> list[Row]:
    """Train with every combination of ``grid`` over ``config``; a row of results each, in order.

    Features and graph are made once for all combinations that agree on what they depend on.
    Called again, it goes on with what is not done. A combination whose training does not end well
    is a row with an error; scores are of the data's queries, and nothing is chosen by them.

    Raises
    ------
    SrchError : a combination that is refused, before any work; otherwise as `train_model`.
    """
    progress = without_tables(progress or silent())
    config = check_config(config)
    if config.work is not None:
        raise ConfigError("work is for a run whose out is an s3:// URL; a sweep's is a folder")
    combinations = combine(config, grid)
    folder = local_path(out)
    _refuse_other_options(folder, combinations)
    if config.data is not None:
        _check_data(open_store(config.data), combinations)
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder) as lock:
        store = shipped_store(folder) if config.data is None else open_store(config.data)
        _check_data(store, combinations)
        if any(_result(folder, one, store) is None for one in combinations):
            _train_all(folder, combinations, store, config, progress, lock.check)
        rows = [make_row(one.values, _known(folder, one, store)) for one in combinations]
        write_results(folder, list(grid), rows, progress)
    return rows


def _refuse_other_options(folder: Path, combinations: Sequence[Combination]) -> None:
    """Refuse where a run of the same name was begun with other options that the grid leaves."""
    for one in combinations:
        recorded = folder / "runs" / one.name / "config.yaml"
        if recorded.exists():
            changed = differing_options(load_config(recorded), one.config)
            if changed:
                raise ConfigError(
                    f"{folder} holds {one.name} of other options: {'; '.join(changed)}; give "
                    "those again, or name another folder with --out"
                )


def _check_data(store: FeatureStore, combinations: Sequence[Combination]) -> None:
    for one in combinations:
        try:
            choose_rows(store, one.config)
        except InputError as error:
            raise InputError(f"the grid's {one.name}: {error}") from None


def _train_all(
    folder: Path,
    combinations: Sequence[Combination],
    store: FeatureStore,
    config: TrainConfig,
    progress: Progress,
    check: Callable[[], None],
) -> None:
    demands = ClusterRequirements(
        config.workers_min, config.workers_wait, (locate(store.path),), (folder.resolve(),)
    )
    with connect(
        config.scheduler,
        config.workers,
        config.memory_limit,
        progress,
        demands,
        tls_files(config.tls),
    ) as cluster:
        for one in combinations:
            _check_plan(one, store, cluster)
        for group in _alike(combinations):
            _train_group(folder, group, store, cluster, progress, check)


def _check_plan(one: Combination, store: FeatureStore, cluster: Cluster) -> None:
    rows, _ = choose_rows(store, one.config)
    memory, restarts = cluster.memory_limit, cluster.restarts
    plan = draft_plan(len(rows), store.modalities, one.config, cluster.workers, memory, restarts)
    try:
        check_memory(plan)
    except PlanError as error:
        raise PlanError(f"the grid's {one.name}: {error}") from None


def _alike(combinations: Sequence[Combination]) -> Iterator[list[Combination]]:
    """The combinations that have one graph, those with the same first codes after each other."""

    def graph(one: Combination) -> str:
        return fingerprint(dataclasses.replace(up_to_graph(one.config), bits=8))

    first = {key: place for place, key in reversed(list(enumerate(map(graph, combinations))))}
    ordered = sorted(combinations, key=lambda one: (first[graph(one)], one.config.loop_bits))
    for _, group in groupby(ordered, key=graph):
        yield list(group)


def _train_group(
    folder: Path,
    group: Sequence[Combination],
    store: FeatureStore,
    cluster: Cluster,
    progress: Progress,
    check: Callable[[], None],
) -> None:
    """The runs of one graph that are not done; ``check`` raises where another sweep took over."""
    bases: dict[Path, RunDirectory] = {}
    left = [one for one in group if _result(folder, one, store) is None]
    for number, one in enumerate(left, 1):
        progress.note(f"{one.name}: {number} of {len(left)} with this graph")
        record: dict[str, Any]
        try:
            place = _base(folder, one).path
            if place not in bases:
                bases[place] = _prepare(folder, one, group, store, cluster, progress)
            shared = SharedResources(cluster, bases[place])
            record = _train_one(folder, one, store, shared, progress)
        except TrainingError as error:
            progress.note(f"{one.name} failed: {error}")
            record = {"error": str(error)}
        # Whoever took over goes on with what is prepared here.
        check()
        record = {**record, "fingerprint": fingerprint(one.config), "store": dict(store.checksums)}
        write_json(_place(folder, one), record)
    if not group[0].config.keep_work:
        check()
        for one in group:
            arrays.remove(_base(folder, one).path)
        with suppress(OSError):  # the bases of other graphs are there still
            _base(folder, group[0]).path.parent.rmdir()


def _prepare(
    folder: Path,
    one: Combination,
    group: Sequence[Combination],
    store: FeatureStore,
    cluster: Cluster,
    progress: Progress,
) -> RunDirectory:
    """The run that ``one`` shares with others, which makes the graph unless ``group`` has it."""
    own = _base(folder, one)
    others = (other for other in group if _base(folder, other) != own)
    made = next((_base(folder, other) for other in others if _has_graph(folder, other)), None)
    config = dataclasses.replace(
        up_to_graph(one.config), data=store.path, out=str(own.path), resume=True
    )
    return prepare_run(config, SharedResources(cluster, made), progress)


def _base(folder: Path, one: Combination) -> RunDirectory:
    key = fingerprint(up_to_graph(one.config))[:16]
    return RunDirectory(folder.resolve() / "prepared" / key)


def _has_graph(folder: Path, one: Combination) -> bool:
    return _base(folder, one).stages(up_to_graph(one.config)).find("graph") is not None


def _train_one(
    folder: Path, one: Combination, store: FeatureStore, shared: SharedResources, progress: Progress
) -> dict[str, Any]:
    out = str(folder / "runs" / one.name)
    config = dataclasses.replace(one.config, data=store.path, out=out, resume=True)
    trained = train_model(config, progress, shared)
    return {
        "summary": trained.run.summary(),
        "last": trained.run.history()[-1],
        "evaluation": trained.evaluation,
    }


def _place(folder: Path, one: Combination) -> Path:
    return folder / "results" / f"{one.name}.json"


def _known(folder: Path, one: Combination, store: FeatureStore) -> Mapping[str, Any]:
    return _result(folder, one, store) or {"error": "not trained"}


def _result(folder: Path, one: Combination, store: FeatureStore) -> dict[str, Any] | None:
    """How a combination went; None where it has not been trained.

    Raises
    ------
    InputError : it went so with other data. ConfigError : with other options.
    """
    path = _place(folder, one)
    if not path.exists():
        return None
    record: dict[str, Any] = read_json(path)
    if record["fingerprint"] != fingerprint(one.config):
        raise ConfigError(
            f"{path} is of other options; name another folder with --out, or remove it"
        )
    if record["store"] != dict(store.checksums):
        raise InputError(
            f"{path} is of other data than {store.path}; name those data, or another folder with "
            "--out"
        )
    return record
