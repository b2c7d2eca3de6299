"""Resumable tasks: the units of a stage, each recorded in the run directory once it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask.delayed import Delayed

from srch_dist.kernels.types import Arrays
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage.run.stages import StageLog

# A function that does a unit and returns its results (None for none), and its arguments.
Work = tuple[Any, ...]


def unit_tasks(stages: StageLog, name: str, works: Sequence[Work]) -> list[Delayed]:
    """One task per unit of the stage ``name``; its result is that of the unit.

    The task of a recorded unit only reads the record.
    """
    done = stages.units(name)
    return [
        tasks.task(stages.unit, name, number)
        if number in done
        else tasks.task(_run_unit, stages, name, number, *work)
        for number, work in enumerate(works)
    ]


def run_units(
    stages: StageLog, name: str, works: Sequence[Work], stage: ProgressStage | None = None
) -> list[Arrays]:
    """Run the units of a stage and return their results in order."""
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
