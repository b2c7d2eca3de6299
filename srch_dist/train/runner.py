"""Train one model from a feature store, and write a finished run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from srch_dist.cli.progress import on_console
from srch_dist.config.loading import check_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, InputError, PlanError, WorkersKilledError
from srch_dist.ingest.shipped import shipped_store
from srch_dist.plan.disk import cache_bytes
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.cluster import Cluster, connect_for
from srch_dist.runtime.interruptions import resume_note
from srch_dist.runtime.machine import parse_bytes
from srch_dist.runtime.main_guard import end_second_import
from srch_dist.runtime.memory import StageProfiler
from srch_dist.runtime.progress import Progress, silent
from srch_dist.runtime.worker_cache import worker_caches
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location, local_path, locate
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.hold import LockedRun, hold_run
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.publish import find_published, publish_run
from srch_dist.storage.run.results import RunResults
from srch_dist.train.finish import present_run, score_run
from srch_dist.train.pipeline import build_graph, run_pipeline
from srch_dist.train.resume import memory_advice
from srch_dist.train.rows import choose_rows
from srch_dist.train.setup import SharedResources, start_or_resume


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes
    ----------
    run : run directory, or ``out`` if this location already held the published results.
    store : the feature store of the data.
    reason : reason why the loop stopped.
    evaluation : scores from `evaluate_model`; None without queries or with ``evaluate: false``.
    """

    run: RunResults
    store: FeatureStore
    reason: str
    evaluation: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"Trained({str(self.run.path)!r}, {self.reason!r})"


# The public name, so that pickles survive moves of modules.
Trained.__module__ = "srch_dist"


def train_model(
    config: TrainConfig,
    progress: Progress | bool | None = None,
    shared: SharedResources | None = None,
) -> Trained:
    """Train one model: features, graph, codes, model, scores and report in a run directory.

    Parameters
    ----------
    config : options. Without ``scheduler``, this function starts a local cluster for the run.
    progress : display of stages and log lines: True for standard error, or an object with the
        methods of `Progress`; default: silent.
    shared : cluster and results that the runs of a sweep share. They do not change the codes.

    Returns
    -------
    The finished run.

    Raises
    ------
    SrchError : bad input, a plan that does not fit, or a run directory in use. The directory is
        then not marked as finished.
    """
    end_second_import()
    if isinstance(progress, bool):
        progress = on_console() if progress else None
    progress = progress or silent()
    config = check_config(config)
    out = locate(config.out or default_folder())
    with resume_note(f"train_model again with out={str(out)!r} and resume=True"):
        return _train_at(out, config, progress, shared)


def _train_at(
    out: Location, config: TrainConfig, progress: Progress, shared: SharedResources | None
) -> Trained:
    """Train in ``out``; with ``work``, train in that folder and upload the results to ``out``."""
    store = None if config.data is None else open_store(config.data)
    if store is not None:
        choose_rows(store, config)
    if isinstance(out, Path):
        for name, value in (("work", config.work), ("scratch", config.scratch)):
            if value is not None:
                raise ConfigError(
                    f"{name!r} is {value!r}, but 'out' is not an s3:// URL. Set 'out' to the run "
                    f"directory, and omit {name!r}."
                )
        return _train_in(out, store, config, progress, shared)
    _parse_scratch(config)
    if find_published(out, config) and store is not None:
        progress.note(f"results: already at {out}")
        run = open_run(out)
        return Trained(run, store, run.outcome()["reason"], None)
    if config.work is None:
        return _train_in(out, store, config, progress, shared)
    folder = local_path(config.work)
    with hold_output(out) as check:
        trained = _train_in(folder, store, config, progress, shared)
        publish_run(RunDirectory(folder.resolve()), out, check)
    progress.note(f"results: {out}")
    return trained


def prepare_run(
    config: TrainConfig, shared: SharedResources, progress: Progress | None = None
) -> RunDirectory:
    """Run or resume the stages up to the graph, so that other runs can reuse features and graph.

    Raises
    ------
    SrchError : as in `train_model`.
    """
    progress = progress or silent()
    config = check_config(config)
    if config.data is None or config.out is None:
        raise ConfigError("a base run needs the options 'data' and 'out'; set both")
    with hold_run(config.out, config) as locked:
        prepared = start_or_resume(open_store(config.data), locked, config, shared, progress)
        with _explained_kills(prepared.job.plan):
            build_graph(prepared, StageProfiler())
    return locked.run


def _train_in(
    folder: Location,
    store: FeatureStore | None,
    config: TrainConfig,
    progress: Progress,
    shared: SharedResources | None,
) -> Trained:
    """Train in ``folder``. After a refused input, remove a folder that this call created."""
    with hold_run(folder, config) as locked:
        run = locked.run
        with ExitStack() as stack:
            if shared is None:
                with _discarded_on(locked, BaseException):
                    cluster = stack.enter_context(_connect(run, store, config, progress))
                shared = SharedResources(cluster)
            with _discarded_on(locked, ConfigError, InputError, PlanError):
                store = store or shipped_store(run.path)
                if not locked.finished:
                    prepared = start_or_resume(store, locked, config, shared, progress)
                    plan = prepared.job.plan
                    with _explained_kills(plan), worker_caches(_cache_limit(run, plan, config)):
                        run_pipeline(prepared)
            if not config.keep_work:
                arrays.remove(run.work)
            evaluation = score_run(run, store, config, progress)
        present_run(run, store, config, progress)
        if not isinstance(folder, Path) and not config.keep_work:
            # An object store keeps results alone. Without checkpoints, nothing is left to do.
            arrays.remove(run.checkpoint(0).parent)
    return Trained(run, store, run.outcome()["reason"], evaluation)


def default_folder() -> str:
    """Return a name for a new run directory, made from the current time."""
    return f"runs/{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"


def _connect(
    run: RunDirectory, store: FeatureStore | None, config: TrainConfig, progress: Progress
) -> AbstractContextManager[Cluster]:
    reads = () if store is None else (locate(store.path),)
    return connect_for(config, progress, reads, (run.path,))


def _parse_scratch(config: TrainConfig) -> int | None:
    text = config.scratch
    return None if text is None else parse_bytes(text, "scratch", least=0)


def _cache_limit(run: RunDirectory, plan: Plan, config: TrainConfig) -> int:
    """Choose the bytes of each worker's cache of objects; 0 for a run on a disk."""
    if isinstance(run.path, Path):
        return 0
    given = _parse_scratch(config)
    return cache_bytes(plan) if given is None else given


@contextmanager
def _discarded_on(locked: LockedRun, *errors: type[BaseException]) -> Iterator[None]:
    """Remove a new run directory if this context raises one of ``errors``."""
    try:
        yield
    except errors:
        if locked.new:
            locked.run.discard()
        raise


@contextmanager
def _explained_kills(plan: Plan) -> Iterator[None]:
    """Add `memory_advice` to the message of a WorkersKilledError from this context."""
    try:
        yield
    except WorkersKilledError as error:
        raise WorkersKilledError(f"{error}; {memory_advice(plan)}") from None
