"""Resumable tasks: each finished unit of a stage is recorded in the run directory.

A stage is a named part of a training run. A unit is the work of one task of the stage, for example
on one partition, and has a number. A `Work` is the function and the arguments of a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask.delayed import Delayed

from srch_dist.kernels.types import Arrays
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage.run.stages import StageLog

# (function, *arguments) of one unit. The function returns arrays by name, or None for no results.
Work = tuple[Any, ...]


def unit_tasks(stages: StageLog, name: str, works: Sequence[Work]) -> list[Delayed]:
    """Create one task per unit of the stage ``name``; a task returns the unit's results.

    If an earlier attempt recorded a unit, the task of this unit only reads the record.
    """
    done = stages.units(name)
    return [
        tasks.task(stages.unit, name, number)
        if number in done
        else tasks.named_task(work[0].__name__, _run_unit, stages, name, number, *work)
        for number, work in enumerate(works)
    ]


def run_units(
    stages: StageLog, name: str, works: Sequence[Work], stage: ProgressStage | None = None
) -> list[Arrays]:
    """Run the units ``works`` of the stage ``name``; return their results in order."""
    return tasks.run_all(unit_tasks(stages, name, works), stage)


def _run_unit(
    stages: StageLog,
    name: str,
    number: int,
    function: Callable[..., Arrays | None],
    *arguments: Any,
) -> Arrays:
    results = function(*arguments) or {}
    stages.commit_unit(name, number, results)
    return results
