"""Hyper-parameter sweep: one run per combination of a grid.

Runs share features and graph if all options that change features or graph are equal. Runs that
differ only in bits, directions or encoder also share the codes that the loop learned.

```
runs/NAME            run directory of a combination
results/NAME.json    result of a combination, written when its run ends; a repeated sweep skips it
prepared/FINGERPRINT features and graph that unfinished runs share; removed after the last run
results.json, .csv   one row per combination; sweep.png plots them (see `srch_dist.sweep.results`)
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from srch_dist.config.identity import differing_options, fingerprint, up_to_graph, up_to_loop
from srch_dist.config.loading import check_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, InputError, PlanError, StorageError, TrainingError
from srch_dist.ingest.shipped import shipped_store
from srch_dist.plan.planner import check_memory, draft_plan
from srch_dist.runtime.cluster import Cluster, connect_for
from srch_dist.runtime.interruptions import resume_note
from srch_dist.runtime.main_guard import end_second_import
from srch_dist.runtime.progress import Progress, silent, without_tables
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import write_manifest
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location, local_path, locate
from srch_dist.storage.locks.file_lock import hold_lock
from srch_dist.storage.outputs import check_file, check_folder
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import make_folder
from srch_dist.sweep.grid import Combination, Grid, combine
from srch_dist.sweep.results import TABLES, Row, make_row, read_result, write_results
from srch_dist.train.rows import choose_rows
from srch_dist.train.runner import prepare_run, train_model
from srch_dist.train.setup import SharedResources


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """A sweep whose folder this process has locked.

    Attributes
    ----------
    folder : folder of all runs and results.
    store : the feature store of the data.
    progress : display of stages and log lines.
    check_lock : function that raises StorageError if another process has taken over the folder.
    unwritten : results whose files could not be written, by name of the combination.
    """

    folder: Path
    store: FeatureStore
    progress: Progress
    check_lock: Callable[[], None]
    unwritten: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def result_path(self, combination: Combination) -> Path:
        """Return the path of the result file of a combination."""
        return self.folder / "results" / f"{combination.name}.json"

    def run(self, combination: Combination) -> RunDirectory:
        """Return the run directory of a combination."""
        return _run_of(self.folder, combination)

    def base_run(self, combination: Combination) -> RunDirectory:
        """Return a combination's base run, the run directory of the features and graph to reuse."""
        key = fingerprint(up_to_graph(combination.config))[:16]
        return RunDirectory(self.folder.resolve() / "prepared" / key)

    def has_graph(self, combination: Combination) -> bool:
        """Whether the base run of a combination has a finished graph."""
        stages = self.base_run(combination).stages(up_to_graph(combination.config))
        return stages.find("graph") is not None

    def result(self, combination: Combination) -> dict[str, Any] | None:
        """Read the recorded result of a combination; None if it has no result yet.

        Raises
        ------
        InputError : the result belongs to other data.
        ConfigError : the result belongs to other options.
        """
        if combination.name in self.unwritten:
            return self.unwritten[combination.name]
        path = self.result_path(combination)
        if not path.exists():
            return None
        record = read_result(path)
        if record["fingerprint"] != fingerprint(combination.config):
            raise ConfigError(
                f"{path} was written with other options; choose another folder with --out, or "
                "remove the file"
            )
        if record["store"] != dict(self.store.checksums):
            raise InputError(
                f"{path} was written with other data than {self.store.path}. Give the feature "
                "store of the first sweep, or choose another folder with --out"
            )
        return record


def sweep_options(
    config: TrainConfig,
    grid: Grid,
    out: str | Path,
    progress: Progress | None = None,
    show: Callable[[Sequence[Row]], None] | None = None,
) -> list[Row]:
    """Train with every combination of the values in ``grid``; ``config`` has all other options.

    Combinations share features and graph if all options that change features or graph are equal.
    Combinations that differ only in bits (with ``method.directions`` above 0), directions or
    encoder also share the loop. A second call with the same arguments trains the combinations that
    have no result yet. Runs are scored on the queries of the data; no combination is selected by
    its score.

    Parameters
    ----------
    config : options of all runs.
    grid : values by option name; see `parse_grid`.
    out : local folder of the sweep.
    show : function that is called with the rows, before the results are written to files. The
        function is also called if the files cannot be written.

    Returns
    -------
    A row of results for each combination, in order. If training fails, the row has the ``error``.

    Raises
    ------
    SrchError : a combination is refused before any work, or an error as in `train_model`.
    """
    end_second_import()
    progress, show = without_tables(progress or silent()), show or (lambda _rows: None)
    config = check_config(config)
    folder, combinations = _check_request(config, grid, out)
    make_folder(folder)
    again = resume_note(f"sweep_options again with out={str(folder)!r}")
    with hold_lock(folder) as lock, again:
        store = shipped_store(folder) if config.data is None else open_store(config.data)
        _check_data(store, combinations)
        sweep = _Sweep(folder, store, progress, lock.check)
        try:
            if any(sweep.result(combination) is None for combination in combinations):
                _train_all(sweep, combinations, config)
        except StorageError:
            with suppress(StorageError):  # the first error is the one to report
                if any(sweep.result(combination) for combination in combinations):
                    show(_rows(sweep, combinations))
            raise
        rows = _rows(sweep, combinations)
        show(rows)
        write_results(folder, list(grid), rows, progress)
    return rows


def _check_request(
    config: TrainConfig, grid: Grid, out: str | Path
) -> tuple[Path, list[Combination]]:
    """Check options, folder and data before any work; return the folder and the combinations."""
    if config.work is not None:
        raise ConfigError(
            f"'work' is {config.work!r}, but a sweep writes only to local folders; omit 'work'"
        )
    combinations = combine(config, grid)
    folder = check_folder(local_path(out))
    for name, kind in TABLES.items() if folder.exists() else ():
        check_file(folder / name, kind)
    _refuse_other_options(folder, combinations)
    if config.data is not None:
        _check_data(open_store(config.data), combinations)
    return folder, combinations


def _rows(sweep: _Sweep, combinations: Sequence[Combination]) -> list[Row]:
    return [
        make_row(combination.values, _result_or_error(sweep, combination))
        for combination in combinations
    ]


def _run_of(folder: Path, combination: Combination) -> RunDirectory:
    return RunDirectory(folder / "runs" / combination.name)


def _refuse_other_options(folder: Path, combinations: Sequence[Combination]) -> None:
    """Raise ConfigError if a run in the folder has other options than its combination."""
    for combination in combinations:
        run = _run_of(folder, combination)
        if (run.path / "config.yaml").exists():
            changed = differing_options(run.config(), combination.config)
            if changed:
                raise ConfigError(
                    f"{folder} holds {combination.name} with other options: {'; '.join(changed)}. "
                    "Give the options of the existing run, or choose another folder with --out"
                )


def _check_data(store: FeatureStore, combinations: Sequence[Combination]) -> None:
    for combination in combinations:
        try:
            choose_rows(store, combination.config)
        except InputError as error:
            raise InputError(f"the grid's run {combination.name}: {error}") from None


def _train_all(sweep: _Sweep, combinations: Sequence[Combination], config: TrainConfig) -> None:
    reads, writes = (locate(sweep.store.path),), (sweep.folder.resolve(),)
    with connect_for(config, sweep.progress, reads, writes) as cluster:
        for combination in combinations:
            _check_plan(combination, sweep.store, cluster)
        for group in _groups_by_graph(combinations):
            _train_group(sweep, group, cluster)


def _check_plan(combination: Combination, store: FeatureStore, cluster: Cluster) -> None:
    config = combination.config
    rows, _ = choose_rows(store, config)
    plan = draft_plan(len(rows), store.modalities, config, cluster)
    try:
        check_memory(plan)
    except PlanError as error:
        raise PlanError(f"the grid's run {combination.name}: {error}") from None


def _groups_by_graph(combinations: Sequence[Combination]) -> Iterator[list[Combination]]:
    """Yield groups of combinations that share a graph.

    A group is sorted by ``loop_bits``, so that combinations with equal first codes are adjacent.
    """

    def graph(combination: Combination) -> str:
        return fingerprint(dataclasses.replace(up_to_graph(combination.config), bits=8))

    first = {key: place for place, key in reversed(list(enumerate(map(graph, combinations))))}
    ordered = sorted(
        combinations,
        key=lambda combination: (first[graph(combination)], combination.config.loop_bits),
    )
    for _, group in groupby(ordered, key=graph):
        yield list(group)


def _train_group(sweep: _Sweep, group: Sequence[Combination], cluster: Cluster) -> None:
    """Train the combinations of a group that have no result yet.

    Then remove all base runs of the group, unless ``keep_work`` is on.
    """
    bases: dict[Location, RunDirectory] = {}
    missing = [combination for combination in group if sweep.result(combination) is None]
    for number, combination in enumerate(missing, 1):
        sweep.progress.note(f"{combination.name}: run {number} of {len(missing)} with this graph")
        record: dict[str, Any]
        try:
            place = sweep.base_run(combination).path
            if place not in bases:
                bases[place] = _prepare(sweep, combination, group, cluster)
            loop = _finished_loop(sweep, combination, group)
            record = _train_one(sweep, combination, SharedResources(cluster, bases[place], loop))
        except TrainingError as error:
            sweep.progress.note(f"{combination.name} failed: {error}")
            record = {"error": str(error)}
        # If another process has taken over, it uses the base runs: keep them, and write no result.
        sweep.check_lock()
        record |= {
            "fingerprint": fingerprint(combination.config),
            "store": dict(sweep.store.checksums),
        }
        sweep.unwritten[combination.name] = record
        write_manifest(sweep.result_path(combination), record)
        del sweep.unwritten[combination.name]
    if not group[0].config.keep_work:
        sweep.check_lock()
        for combination in group:
            arrays.remove(sweep.base_run(combination).path)
        with suppress(OSError):  # base runs of other graphs are still in the folder
            (sweep.folder.resolve() / "prepared").rmdir()


def _prepare(
    sweep: _Sweep, combination: Combination, group: Sequence[Combination], cluster: Cluster
) -> RunDirectory:
    """Compute features and graph of a combination, as its base run.

    If another base run of the group has a finished graph, that graph is reused.
    """
    base = sweep.base_run(combination)
    others = (other for other in group if sweep.base_run(other) != base)
    source = next((sweep.base_run(other) for other in others if sweep.has_graph(other)), None)
    config = dataclasses.replace(
        up_to_graph(combination.config), data=sweep.store.path, out=str(base.path), resume=True
    )
    return prepare_run(config, SharedResources(cluster, source), sweep.progress)


def _finished_loop(
    sweep: _Sweep, combination: Combination, group: Sequence[Combination]
) -> RunDirectory | None:
    """Find a finished run, of the same group, whose loop learned the same codes, or None."""
    wanted = fingerprint(up_to_loop(combination.config))
    for other in group:
        if other == combination or fingerprint(up_to_loop(other.config)) != wanted:
            continue
        run, result = sweep.run(other), sweep.result(other)
        if result is not None and "error" not in result and run.committed():
            return run
    return None


def _train_one(sweep: _Sweep, combination: Combination, shared: SharedResources) -> dict[str, Any]:
    out = str(sweep.run(combination).path)
    config = dataclasses.replace(combination.config, data=sweep.store.path, out=out, resume=True)
    trained = train_model(config, sweep.progress, shared)
    return {
        "summary": trained.run.summary(),
        "last": trained.run.history()[-1],
        "evaluation": trained.evaluation,
    }


def _result_or_error(sweep: _Sweep, combination: Combination) -> Mapping[str, Any]:
    return sweep.result(combination) or {"error": "not trained"}
