"""One training run from a feature store to a finished run directory."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist import execution
from srch_dist.algorithm import learn_codes
from srch_dist.cluster import Cluster, Demands, connect, tls_files
from srch_dist.config import TrainConfig, check_config
from srch_dist.errors import (
    ConfigError,
    InputError,
    PlanError,
    WorkersKilledError,
)
from srch_dist.evaluation import evaluate_model, has_queries
from srch_dist.fitting import finish_codes
from srch_dist.forecast import forecast
from srch_dist.graph import GraphReport
from srch_dist.kernels.edges import modality_weights
from srch_dist.plan_report import plan_record, plan_table
from srch_dist.planning import Plan, check_disk, check_memory, compiled_bytes, draft_plan
from srch_dist.preparation import Statistics, write_sample
from srch_dist.progress import Progress, silent
from srch_dist.rates import Rates
from srch_dist.resuming import (
    data_record,
    memory_advice,
    refuse_other_data,
    resume_features,
    resume_graph,
    verify_run,
)
from srch_dist.row_choice import choose_rows, note_unused, shipped_store, write_rows
from srch_dist.sharing import share_stages, shared_partition_rows
from srch_dist.storage import arrays
from srch_dist.storage.features import FeatureStore, open_store
from srch_dist.storage.holding import HeldRun, hold_run
from srch_dist.storage.locations import local_path, locate
from srch_dist.storage.model import save_model
from srch_dist.storage.object_lock import hold_place
from srch_dist.storage.publishing import find_published, publish_run
from srch_dist.storage.run import RunDirectory, RunResults, open_run


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes
    ----------
    run : its directory, or where its results were before. store : the data.
    reason : why the loop stopped.
    evaluation : as of `evaluate_model`; None where the data has no queries or it was not asked.
    """

    run: RunResults
    store: FeatureStore
    reason: str
    evaluation: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Shared:
    """What runs of one sweep have in common.

    Attributes
    ----------
    cluster : that the caller is connected to.
    base : run whose features and graph are taken, as of `prepare_run`; None to make them anew.
    """

    cluster: Cluster
    base: RunDirectory | None = None


def train_model(
    config: TrainConfig, progress: Progress | None = None, shared: Shared | None = None
) -> Trained:
    """Train as ``config`` says; starts a local cluster unless it names a scheduler.

    ``shared`` is what the run has in common with others; codes are those of a run on its own.

    Raises
    ------
    SrchError : bad input, a plan that does not fit, a run directory in use. Nothing that looks
        like a finished run is left then.
    """
    progress = progress or silent()
    config = check_config(config)
    out = locate(config.out or default_folder())
    store = None if config.data is None else open_store(config.data)
    if store is not None:
        choose_rows(store, config)
    if isinstance(out, Path):
        if config.work is not None:
            raise ConfigError("work is for a run whose out is an s3:// URL; name the folder by out")
        return _train_in(out, store, config, progress, shared)
    if find_published(out, config) and store is not None:
        progress.note(f"the results of this run are at {out} already")
        run = open_run(out)
        return Trained(run, store, run.summary()["reason"], None)
    folder = local_path(config.work or f"runs/{out.bucket}/{out.key}")
    with hold_place(out) as check:
        trained = _train_in(folder, store, config, progress, shared)
        publish_run(RunDirectory(folder.resolve()), out, check)
    progress.note(f"results: {out}")
    return trained


def prepare_run(
    config: TrainConfig, shared: Shared, progress: Progress | None = None
) -> RunDirectory:
    """A run up to its graph, for others to share; goes on with one that has been begun.

    Raises
    ------
    SrchError : as `train_model`.
    """
    progress = progress or silent()
    config = check_config(config)
    if config.data is None or config.out is None:
        raise ConfigError("a run that is shared needs data and out")
    with hold_run(config.out, config) as held:
        begun = _begin(open_store(config.data), held, config, shared, progress)
        with _advised(begun.plan):
            _set_up(begun, progress, execution.Spent())
    return held.run


def _train_in(
    folder: Path,
    store: FeatureStore | None,
    config: TrainConfig,
    progress: Progress,
    shared: Shared | None,
) -> Trained:
    """Train in a folder on disk."""
    with hold_run(folder, config) as held:
        run = held.run
        with _surroundings(held, store, config, progress, shared) as given:
            try:
                store = store or shipped_store(run.path)
                if not held.finished:
                    begun = _begin(store, held, config, given, progress)
                    with _advised(begun.plan):
                        _learn(begun, progress)
            except (ConfigError, InputError, PlanError):
                if held.new:
                    run.discard()
                raise
            if not config.keep_work:
                arrays.remove(run.work)
            evaluation = None
            if config.evaluate and has_queries(run, store):
                evaluation = evaluate_model(run.path, store.path, progress)
    return Trained(run, store, run.summary()["reason"], evaluation)


def default_folder() -> str:
    """A new run directory, named by the time."""
    return f"runs/{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"


@contextmanager
def _connect_for(
    held: HeldRun, store: FeatureStore | None, config: TrainConfig, progress: Progress
) -> Iterator[Cluster]:
    """`connect` as ``config`` says; a cluster that cannot be had leaves no new run directory."""
    reads = () if store is None else (locate(store.path),)
    demands = Demands(config.workers_min, config.workers_wait, reads, (held.run.path,))
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                connect(
                    config.scheduler,
                    config.workers,
                    config.memory_limit,
                    progress,
                    demands,
                    tls_files(config.tls),
                )
            )
        except BaseException:
            if held.new:
                held.run.discard()
            raise
        yield cluster


@contextmanager
def _surroundings(
    held: HeldRun,
    store: FeatureStore | None,
    config: TrainConfig,
    progress: Progress,
    shared: Shared | None,
) -> Iterator[Shared]:
    """What the caller shares, or a cluster of the run's own."""
    if shared is not None:
        yield shared
        return
    with _connect_for(held, store, config, progress) as cluster:
        yield Shared(cluster)


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A run whose rows are chosen and whose work is planned."""

    held: HeldRun
    store: FeatureStore
    config: TrainConfig
    shared: Shared
    plan: Plan
    held_out: int


@contextmanager
def _advised(plan: Plan) -> Iterator[None]:
    """Tell one whose workers are killed what was planned."""
    try:
        yield
    except WorkersKilledError as error:
        raise WorkersKilledError(f"{error}; {memory_advice(plan)}") from None


def _begin(
    store: FeatureStore,
    held: HeldRun,
    config: TrainConfig,
    shared: Shared,
    progress: Progress,
) -> _Begun:
    """Choose the rows and plan the work, or hold what is there against data and checksums."""
    run, base = held.run, shared.base
    rows, queries = choose_rows(store, config)
    dims = ", ".join(f"{g} {d}" for g, d in store.modalities.items())
    progress.note(
        f"{len(rows)} pairs of {store.path}: {dims}; {config.bits} bits, preset {config.preset}; "
        f"run {run.path}"
    )
    note_unused(store, rows, queries, config, progress)
    stages = run.stages(config)
    begun = stages.find("rows")
    if begun is not None:
        refuse_other_data(run, store, begun.values)
        # Its arrays are cut like this, whatever is asked for now.
        config = dataclasses.replace(config, partition_rows=begun.values["partition_rows"])
    elif base is not None:
        config = dataclasses.replace(config, partition_rows=shared_partition_rows(base))
    plan = _make_plan(len(rows), store, run, config, shared.cluster, progress)
    if begun is None:
        write_rows(run, plan, rows, queries)
        values = {**data_record(store), "partition_rows": plan.partition_rows}
        stages.commit("rows", values, {})
    if base is not None:
        share_stages(base, run, config)
    if begun is not None:
        verify_run(run, plan, config, progress)
    return _Begun(held, store, config, shared, plan, len(queries))


def _make_plan(
    rows: int,
    store: FeatureStore,
    run: RunDirectory,
    config: TrainConfig,
    cluster: Cluster,
    progress: Progress,
    degree: float | None = None,
) -> Plan:
    """Plan the run, show and save the plan, and refuse what does not fit.

    Once the graph is built, its ``degree`` replaces the largest that it could have had.
    """
    plan = draft_plan(
        rows,
        store.modalities,
        config,
        cluster.workers,
        cluster.memory_limit,
        cluster.restarts,
        degree,
    )
    costs = forecast(plan, dict(store.modalities), config, Rates())
    if degree is None:
        progress.show(plan_table(plan, costs, timed=False))
        check_memory(plan)
        check_disk(plan, str(run.path), shutil.disk_usage(run.path).free)
        run.write_plan(plan_record(plan, costs))
    else:
        run.write_plan({**plan_record(plan, costs), "before_the_graph": run.plan()})
    return plan


def _set_up(
    begun: _Begun, progress: Progress, spent: execution.Spent
) -> tuple[Statistics, GraphReport]:
    """Features and graph, as far as they are not there."""
    held, plan, config = begun.held, begun.plan, begun.config
    _note_narrow(begun.store, config, progress)
    with spent.of("features"):
        statistics = resume_features(begun.store, held.run, plan, config, progress)
    held.lock.check()
    with spent.of("graph"):
        graph = resume_graph(held.run, tuple(begun.store.modalities), plan, config, progress)
    held.lock.check()
    _note_graph(graph, statistics, progress)
    searched = begun.shared.base is None and compiled_bytes(plan.methods, False)
    if searched and begun.shared.cluster.restarts:
        execution.restart_workers()
    return statistics, graph


def _learn(begun: _Begun, progress: Progress) -> None:
    """Everything from features to a finished run directory, as far as it is not done."""
    held, store, config = begun.held, begun.store, begun.config
    run, modalities = held.run, tuple(store.modalities)
    spent = execution.Spent()
    statistics, graph = _set_up(begun, progress, spent)
    degree = sum(report.mean_degree for report in graph.modalities.values())
    plan = _make_plan(begun.plan.rows, store, run, config, begun.shared.cluster, progress, degree)
    with spent.of("training"):
        stages = run.stages(config)
        if uses_sample(config) and stages.find("sample") is None:
            write_sample(run, modalities, config.method.anchors)
            stages.commit("sample", {}, {})
        weights = choose_weights(graph, config)
        learned = learn_codes(run, plan, statistics, weights, config, progress, held.lock.check)
    progress.note(f"stopped: {learned.reason}")
    with spent.of("model"):
        model, condensed = finish_codes(
            run, plan, learned, statistics, weights, store, config, progress
        )
        held.lock.check()
        save_model(run.model, model)
    run.finish(
        {
            "reason": learned.reason,
            "iterations": learned.iteration,
            "store": dict(store.checksums),
            "rows": plan.rows,
            "held_out": begun.held_out,
            "partitions": len(plan.partitions),
            "blocks": len(plan.blocks),
            "precision": plan.dtype.name,
            "weights": weights,
            "condensed": condensed,
            "zero_rows": dict(statistics.zero_rows),
            "graph": dataclasses.asdict(graph),
            "seconds": spent.seconds,
            "peak_memory": spent.peak(),
            "stage_peaks": spent.peaks,
        }
    )


def uses_sample(config: TrainConfig) -> bool:
    """Whether a fixed sample of rows is needed: as anchors, or to learn a rotation or a frame."""
    method = config.method
    return method.rotate or method.encoder == "anchors" or method.directions > 0


def choose_weights(graph: GraphReport, config: TrainConfig) -> dict[str, float]:
    """How far each modality is trusted, by name; the weights sum to the number of modalities."""
    if config.method.weights == "equal":
        return dict.fromkeys(graph.modalities, 1.0)
    shares = np.array([report.mutual for report in graph.modalities.values()])
    return dict(zip(graph.modalities, modality_weights(shares).tolist(), strict=True))


def _note_narrow(store: FeatureStore, config: TrainConfig, progress: Progress) -> None:
    for g, dims in store.modalities.items():
        if config.loop_bits > dims:
            progress.note(
                f"warning: {g} has {dims} dimensions, fewer than the loop's "
                f"{config.loop_bits} bits; its projection has orthonormal columns instead of rows"
            )


def _note_graph(graph: GraphReport, statistics: Statistics, progress: Progress) -> None:
    for g, report in graph.modalities.items():
        method = report.method
        if method == "partitioned":
            method += f" into {report.clusters} clusters with overlap {report.overlap}"
        progress.note(
            f"graph {g}: {method}, recall {report.recall:.3f}, {report.edges} edges, "
            f"mean degree {report.mean_degree:.1f}, isolated {report.isolated}, rows with a "
            f"duplicate {report.duplicates}, zero rows {statistics.zero_rows[g]}"
        )
    progress.note(f"graph of all modalities: components {graph.components}")
