"""One training run from a feature store to a finished run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from srch_dist.config.loading import check_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, InputError, PlanError, WorkersKilledError
from srch_dist.ingest.shipped import shipped_store
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import memory
from srch_dist.runtime.cluster import Cluster, ClusterRequirements, connect, tls_files
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import local_path, locate
from srch_dist.storage.locks.object_lock import hold_place
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.hold import LockedRun, hold_run
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.publish import find_published, publish_run
from srch_dist.storage.run.results import RunResults
from srch_dist.train.finish import present_run, score_run
from srch_dist.train.pipeline import learn_run, set_up
from srch_dist.train.resume import memory_advice
from srch_dist.train.rows import choose_rows
from srch_dist.train.setup import SharedResources, begin


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


def train_model(
    config: TrainConfig, progress: Progress | None = None, shared: SharedResources | None = None
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
    config: TrainConfig, shared: SharedResources, progress: Progress | None = None
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
        begun = begin(open_store(config.data), held, config, shared, progress)
        with _advised(begun.plan):
            set_up(begun, progress, memory.StageProfiler())
    return held.run


def _train_in(
    folder: Path,
    store: FeatureStore | None,
    config: TrainConfig,
    progress: Progress,
    shared: SharedResources | None,
) -> Trained:
    """Train in a folder on disk."""
    with hold_run(folder, config) as held:
        run = held.run
        with _surroundings(held, store, config, progress, shared) as given:
            try:
                store = store or shipped_store(run.path)
                if not held.finished:
                    begun = begin(store, held, config, given, progress)
                    with _advised(begun.plan):
                        learn_run(begun, progress)
            except (ConfigError, InputError, PlanError):
                if held.new:
                    run.discard()
                raise
            if not config.keep_work:
                arrays.remove(run.work)
            evaluation = score_run(run, store, config, progress)
        present_run(run, store, config, progress)
    return Trained(run, store, run.summary()["reason"], evaluation)


def default_folder() -> str:
    """A new run directory, named by the time."""
    return f"runs/{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"


@contextmanager
def _connect_for(
    held: LockedRun, store: FeatureStore | None, config: TrainConfig, progress: Progress
) -> Iterator[Cluster]:
    """`connect` as ``config`` says; a cluster that cannot be had leaves no new run directory."""
    reads = () if store is None else (locate(store.path),)
    demands = ClusterRequirements(config.workers_min, config.workers_wait, reads, (held.run.path,))
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
    held: LockedRun,
    store: FeatureStore | None,
    config: TrainConfig,
    progress: Progress,
    shared: SharedResources | None,
) -> Iterator[SharedResources]:
    """What the caller shares, or a cluster of the run's own."""
    if shared is not None:
        yield shared
        return
    with _connect_for(held, store, config, progress) as cluster:
        yield SharedResources(cluster)


@contextmanager
def _advised(plan: Plan) -> Iterator[None]:
    """Tell one whose workers are killed what was planned."""
    try:
        yield
    except WorkersKilledError as error:
        raise WorkersKilledError(f"{error}; {memory_advice(plan)}") from None
