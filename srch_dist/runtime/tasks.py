"""Dask tasks: create them, place them on workers, add up their results and run them.

With a current `distributed` client, tasks run on its cluster under the watchdog; without one, on
Dask's local scheduler (tests, very small data).
"""

from __future__ import annotations

import time
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any, TypeVar

import dask
import dask.base
import distributed
from dask.delayed import Delayed, delayed

from srch_dist.errors import ClusterLostError, WorkersKilledError
from srch_dist.runtime.heap import trim_heap
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.watchdog import LOOK_SECONDS, Watch, task_name

T = TypeVar("T")

# Seconds between two looks at the tasks of a stage.
_POLL_SECONDS = 0.05
# Partial results that one task of a tree adds.
FAN_IN = 8


def task(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """A task that calls ``function``; its key starts with the function's name.

    Pass each lazy value as an argument of its own. For one inside a list, Dask would optimise the
    whole graph built so far, at every call.
    """
    key = _key(function.__name__)
    call: Delayed = delayed(_call, pure=False)(function, *arguments, dask_key_name=key)
    return call


def task_pair(function: Callable[..., tuple[Any, Any]], *arguments: Any) -> tuple[Delayed, Delayed]:
    """A task that calls ``function``, and a handle of each of the two values that it returns."""
    pair = delayed(_call, pure=False, nout=2)
    first, second = pair(function, *arguments, dask_key_name=_key(function.__name__))
    return first, second


def field(handle: Delayed, name: str) -> Delayed:
    """A task that reads an attribute of a value on its worker; its key starts with ``name``.

    ``name`` may be a path, such as "vectors.x".
    """
    value: Delayed = delayed(_call, pure=False)(attrgetter(name), handle, dask_key_name=_key(name))
    return value


def on_worker(number: int) -> AbstractContextManager[Any]:
    """Run the tasks that are created in this context on worker ``number``.

    If that worker is lost, the tasks run on another one. Without this placement, tasks that read
    the same large value would all queue on the worker that holds it. The scheduler copies the value
    to other workers only after it has measured how long such tasks take.
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


def _key(name: str) -> str:
    """A new key that shows in Dask's dashboard, and in messages, what its task does."""
    return f"{name}-{uuid.uuid4()}"


def _call(function: Callable[..., T], *arguments: Any) -> T:
    """Wrapper of every task: return free heap memory to the operating system, then call."""
    trim_heap()
    return function(*arguments)


def as_task_input(value: Any) -> Delayed:
    """A handle of a value that many tasks share, so that the graph holds it once."""
    wrapped: Delayed = delayed(value, pure=False, traverse=False)
    return wrapped


def add_up(parts: Sequence[Delayed]) -> Delayed:
    """The sum of partial results as a tree of tasks."""
    while len(parts) > 1:
        parts = [
            task(_total, *parts[start : start + FAN_IN]) for start in range(0, len(parts), FAN_IN)
        ]
    return parts[0]


def run_all(tasks: Sequence[Delayed], stage: ProgressStage | None = None) -> list[Any]:
    """Compute tasks and return their results in order; ``stage`` counts each.

    Raises
    ------
    WorkersKilledError : a task killed several workers.
    ClusterLostError : the scheduler is lost, or has had no workers for too long.
    ClusterError : a task hangs; see `watchdog`.
    """
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
        # With the scheduler still there, the OSError is a task's own.
        if isinstance(error, OSError) and client.status == "running":
            raise
        raise ClusterLostError(f"the Dask scheduler was lost: {error}") from None


def _wait(client: distributed.Client, futures: list[Any], stage: ProgressStage | None) -> None:
    """Wait until all tasks are done; the watchdog looks at the cluster meanwhile."""
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
    """Sum the results of calls (function, *arguments); ``stage`` counts each call and the sum."""
    pairs = [task_pair(_call_and_mark, *call) for call in calls]
    total = add_up([result for result, _ in pairs])
    return run_all([*(mark for _, mark in pairs), total], stage)[-1]


def run_one(work: Delayed) -> Any:
    """Compute one task."""
    return run_all([work])[0]


def persist(tasks: Sequence[Delayed]) -> list[Delayed]:
    """Start tasks and keep their results on the workers; Dask computes lost results again."""
    return list(dask.base.persist(*tasks))


def current_client() -> distributed.Client | None:
    """The current client; None without one."""
    try:
        client: distributed.Client = distributed.default_client()
    except ValueError:
        return None
    return client


def _call_and_mark(function: Callable[..., T], *arguments: Any) -> tuple[T, bool]:
    """A result, and a small value that the client can fetch in its place to count it."""
    return function(*arguments), True


def _total(*parts: T) -> T:
    result = parts[0]
    for part in parts[1:]:
        result = result + part  # type: ignore[operator]
    return result
