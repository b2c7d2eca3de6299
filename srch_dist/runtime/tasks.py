"""Dask tasks: create them, place them on workers, add up their results and run them.

If there is a current `distributed` client, tasks run on its cluster, and the watchdog checks them.
Without a client, tasks run on Dask's local scheduler (tests, very small data).
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

# Seconds between two checks of the tasks of a stage.
_POLL_SECONDS = 0.05
# Number of partial results that one task of a sum tree adds.
FAN_IN = 8


def task(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """Create a task that calls ``function``; its key starts with the function's name.

    Pass each lazy value as a separate argument. For a lazy value in a list, Dask would optimise the
    whole graph built so far, at every call.
    """
    return named_task(function.__name__, function, *arguments)


def named_task(name: str, function: Callable[..., Any], *arguments: Any) -> Delayed:
    """Create a task as `task` does, with a key that starts with ``name``."""
    call: Delayed = delayed(_call, pure=False)(function, *arguments, dask_key_name=_key(name))
    return call


def task_pair(function: Callable[..., tuple[Any, Any]], *arguments: Any) -> tuple[Delayed, Delayed]:
    """Create a task that calls ``function``; return one handle for each of its two results."""
    pair = delayed(_call, pure=False, nout=2)
    first, second = pair(function, *arguments, dask_key_name=_key(function.__name__))
    return first, second


def field(handle: Delayed, name: str) -> Delayed:
    """Create a task that reads the attribute ``name`` of a value; its key starts with ``name``.

    ``name`` may be a dotted path, such as "vectors.x".
    """
    value: Delayed = delayed(_call, pure=False)(attrgetter(name), handle, dask_key_name=_key(name))
    return value


def on_worker(number: int) -> AbstractContextManager[Any]:
    """Run the tasks that are created in this context on worker ``number``.

    If that worker is lost, the tasks run on another worker. Without this placement, all tasks that
    read one large value would queue on the worker that holds the value. The scheduler copies the
    value to other workers only after it has measured the duration of such tasks.
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
    """Create a unique task key that starts with ``name``, which the dashboard and errors show."""
    return f"{name}-{uuid.uuid4()}"


def _call(function: Callable[..., T], *arguments: Any) -> T:
    """Return free heap memory to the operating system, then call ``function``; wraps every task."""
    trim_heap()
    return function(*arguments)


def as_task_input(value: Any) -> Delayed:
    """Wrap a value that many tasks read, so that the task graph contains it only once."""
    wrapped: Delayed = delayed(value, pure=False, traverse=False)
    return wrapped


def add_up(parts: Sequence[Delayed]) -> Delayed:
    """Create a tree of tasks that adds partial results; return the handle of the total."""
    while len(parts) > 1:
        parts = [
            task(_total, *parts[start : start + FAN_IN]) for start in range(0, len(parts), FAN_IN)
        ]
    return parts[0]


def run_all(tasks: Sequence[Delayed], stage: ProgressStage | None = None) -> list[Any]:
    """Compute tasks and return their results in order; ``stage`` counts the finished tasks.

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
            f"{error.allowed_failures + 1} workers were killed one after the other by the task "
            f"{task_name(error.task)}"
        ) from None
    except distributed.scheduler.NoWorkerError as error:
        raise ClusterLostError(
            f"the Dask cluster has had no workers for {error.timeout:.0f} s"
        ) from None
    except (CancelledError, distributed.client.FutureCancelledError, OSError) as error:
        # If the scheduler still answers, a task raised the OSError.
        if isinstance(error, OSError) and client.status == "running":
            raise
        raise ClusterLostError(f"the Dask scheduler was lost: {error}") from None


def _wait(client: distributed.Client, futures: list[Any], stage: ProgressStage | None) -> None:
    """Wait until all tasks are done; meanwhile the watchdog checks the cluster."""
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
    """Run calls (function, *arguments) and return the sum of their results.

    ``stage`` advances once for each call and once for the sum.
    """
    pairs = [task_pair(_call_and_mark, *call) for call in calls]
    total = add_up([result for result, _ in pairs])
    return run_all([*(mark for _, mark in pairs), total], stage)[-1]


def run_one(work: Delayed) -> Any:
    """Compute one task and return its result."""
    return run_all([work])[0]


def persist(tasks: Sequence[Delayed]) -> list[Delayed]:
    """Start tasks and keep their results on the workers; Dask computes lost results again."""
    return list(dask.base.persist(*tasks))


def current_client() -> distributed.Client | None:
    """Return Dask's current client; None if there is no client."""
    try:
        client: distributed.Client = distributed.default_client()
    except ValueError:
        return None
    return client


def _call_and_mark(function: Callable[..., T], *arguments: Any) -> tuple[T, bool]:
    """Call ``function``; return (result, True). The client fetches only True, to count the call."""
    return function(*arguments), True


def _total(*parts: T) -> T:
    result = parts[0]
    for part in parts[1:]:
        result = result + part  # type: ignore[operator]
    return result
