"""Units of a stage: tasks that are not done again once they are recorded in the run directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask.delayed import Delayed

from srch_dist.kernels.types import Arrays
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage.run.stages import StageLog

# A function that does a unit and returns what it found (None for nothing), and its arguments.
Work = tuple[Any, ...]


def unit_tasks(stages: StageLog, name: str, works: Sequence[Work]) -> list[Delayed]:
    """A task a unit of the stage ``name``, whose result is what the unit found.

    Those that an earlier try has finished only read their record.
    """
    done = stages.units(name)
    return [
        tasks.task(stages.unit, name, number)
        if number in done
        else tasks.task(_finish, stages, name, number, *work)
        for number, work in enumerate(works)
    ]


def run_units(
    stages: StageLog, name: str, works: Sequence[Work], stage: ProgressStage | None = None
) -> list[Arrays]:
    """Do the units of a stage and return what each found, in order."""
    return tasks.run_all(unit_tasks(stages, name, works), stage)


def _finish(
    stages: StageLog,
    name: str,
    number: int,
    function: Callable[..., Arrays | None],
    *arguments: Any,
) -> Arrays:
    found = function(*arguments) or {}
    stages.commit_unit(name, number, found)
    return found
