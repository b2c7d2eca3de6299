"""Dask graphs of one project: run them with progress, add up partial results, look at memory.

Everything here works with a `distributed` client (the current one) and, for tests and very
small data, with Dask's local schedulers.
"""

from __future__ import annotations

import time
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import dask
import dask.base
import distributed
from dask.delayed import Delayed, delayed

from srch_dist.errors import ClusterLostError, WorkersKilledError
from srch_dist.runtime.heap import trim_heap
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.watchdog import LOOK_SECONDS, Watch, task_name

S = TypeVar("S")
T = TypeVar("T")

# Seconds between two looks at a stage's tasks.
_POLL_SECONDS = 0.05
# Partial results added in one task of a tree.
_FAN_IN = 8


def task(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """A lazy call.

    Lazy values have to be arguments of their own: for one inside a list Dask optimises the whole
    graph built so far, at every call.
    """
    call: Delayed = delayed(_call, pure=False)(function, *arguments, dask_key_name=_key(function))
    return call


def task_pair(function: Callable[..., tuple[Any, Any]], *arguments: Any) -> tuple[Delayed, Delayed]:
    """A lazy call that returns two values, each to be used on its own."""
    pair = delayed(_call, pure=False, nout=2)
    first, second = pair(function, *arguments, dask_key_name=_key(function))
    return first, second


def on_worker(number: int) -> AbstractContextManager[Any]:
    """Tasks that are made inside run on the worker of this number, on another where it is gone.

    The scheduler would let tasks that read the same large value wait for each other where it lies,
    and lets another worker copy it only once it knows how long they take.
    """
    client = current_client()
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"]) if client else []
    if len(workers) < 2:
        return nullcontext()
    chosen = [workers[number % len(workers)]]
    annotated: AbstractContextManager[Any] = dask.base.annotate(
        workers=chosen, allow_other_workers=True
    )
    return annotated


def _key(function: Callable[..., Any]) -> str:
    """A new key, by which Dask and a person know what a task does."""
    return f"{function.__name__}-{uuid.uuid4()}"


def _call(function: Callable[..., T], *arguments: Any) -> T:
    """What every task runs: it starts with as little free memory in the heap as can be had."""
    trim_heap()
    return function(*arguments)


def as_task_input(value: Any) -> Delayed:
    """A value that stands in a graph once, however many tasks use it."""
    wrapped: Delayed = delayed(value, pure=False, traverse=False)
    return wrapped


def add_up(parts: Sequence[Delayed]) -> Delayed:
    """The sum of partial results as a tree of tasks."""
    while len(parts) > 1:
        parts = [
            task(_total, *parts[start : start + _FAN_IN]) for start in range(0, len(parts), _FAN_IN)
        ]
    return parts[0]


def run_all(tasks: Sequence[Delayed], stage: ProgressStage | None = None) -> list[Any]:
    """Compute tasks and return their results in order, counting each on ``stage``."""
    client = current_client()
    if client is None:
        results = list(dask.base.compute(*tasks))
        if stage is not None:
            stage.advance(len(tasks))
        return results
    try:
        futures = client.compute(list(tasks))
        _wait(client, futures, stage)
        return list(client.gather(futures))
    except distributed.KilledWorker as error:
        raise WorkersKilledError(
            f"{error.allowed_failures + 1} workers were killed one after the other over the task "
            f"{task_name(error.task)}"
        ) from None
    except distributed.scheduler.NoWorkerError as error:
        raise ClusterLostError(
            f"the Dask cluster has had no workers for {error.timeout:.0f} s"
        ) from None
    except (CancelledError, distributed.client.FutureCancelledError, OSError) as error:
        # A task's own OSError is none of the cluster's.
        if isinstance(error, OSError) and client.status == "running":
            raise
        raise ClusterLostError(f"the Dask scheduler was lost: {error}") from None


def _wait(client: distributed.Client, futures: list[Any], stage: ProgressStage | None) -> None:
    """Wait until all are done, and look at the cluster from time to time."""
    watch = Watch(client)
    if stage is None:
        while True:
            try:
                distributed.wait(futures, timeout=LOOK_SECONDS)
                return
            except TimeoutError:
                watch.look()
    completed = distributed.as_completed(futures)
    while not completed.is_empty():
        if completed.has_ready():
            stage.advance(len(completed.next_batch(block=False)))
        else:
            time.sleep(_POLL_SECONDS)
            watch.look()


def run_sum(calls: Sequence[tuple[Any, ...]], stage: ProgressStage) -> Any:
    """The sum of the results of calls, each a function and its arguments, counted on ``stage``."""
    pairs = [task_pair(_call_and_mark, *call) for call in calls]
    total = add_up([result for result, _ in pairs])
    return run_all([*(mark for _, mark in pairs), total], stage)[-1]


def run_one(work: Delayed) -> Any:
    """Compute one task."""
    return run_all([work])[0]


def persist(tasks: Sequence[Delayed]) -> list[Delayed]:
    """Start tasks and keep their results on the workers; lost ones are computed again."""
    return list(dask.base.persist(*tasks))


def current_client() -> distributed.Client | None:
    """The client in use, if there is one."""
    try:
        client: distributed.Client = distributed.default_client()
    except ValueError:
        return None
    return client


def _call_and_mark(function: Callable[..., T], *arguments: Any) -> tuple[T, bool]:
    """A result with something small whose arrival tells that it is there."""
    return function(*arguments), True


def _total(*parts: T) -> T:
    result = parts[0]
    for part in parts[1:]:
        result = result + part  # type: ignore[operator]
    return result
