"""`Job`: run directory, plan, options and progress display of one training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from srch_dist.config.options import TrainConfig
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.stages import StageLog


def _no_lock() -> None:
    """Do nothing: the default check of a job without a lock."""


@dataclass(frozen=True)
class Job:
    """The context of one training run, for functions that run on the client.

    A job must not be part of a Dask graph: pickling it raises TypeError. Tasks receive the paths,
    row ranges and options that they need.

    Attributes
    ----------
    run : directory of the run.
    plan : how the work is split into partitions, blocks, column groups and passes.
    config : all options, resolved.
    modalities : names of the modalities, in the order of the feature store.
    progress : display of stages and log lines.
    check_lock : function that raises StorageError if another process has taken over the run.
    """

    run: RunDirectory
    plan: Plan
    config: TrainConfig
    modalities: tuple[str, ...]
    progress: Progress = field(default_factory=silent)
    check_lock: Callable[[], None] = _no_lock

    @property
    def stages(self) -> StageLog:
        """Log of the finished stages and their records."""
        return self.run.stages(self.config)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Job cannot be pickled, because a Job belongs to the client; pass only the paths, "
            "row ranges and options that the task needs"
        )
