"""Detect a lost cluster and hanging tasks, for which Dask would wait forever.

Dask has no limit on the time of a task. `Watch.look` asks the scheduler for tasks that run too
long. `_hung_workers` and `_is_wanted` read fields of the scheduler's state that Dask does not
document. ``tests/runtime/test_watchdog.py`` lists these fields and the Dask versions that have
them.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Any

import dask
import dask.utils
import distributed

from srch_dist.errors import ClusterError, ClusterLostError

# Dask's option: maximum time without workers. Here also the maximum time without an answer of the
# scheduler.
NO_WORKERS_TIMEOUT = "distributed.scheduler.no-workers-timeout"
# Option of this package in Dask's configuration: maximum time of one task. Planned tasks need at
# most minutes.
TASK_TIMEOUT = "srch-dist.task-timeout"
_TASK_TIMEOUT, _NO_WORKERS_TIMEOUT = "1h", "120s"
# Seconds between two checks of the cluster, and the maximum wait for its answer.
LOOK_SECONDS = 10.0
_RESTART_SECONDS = 120
# A task that hangs in this many workers ends the run.
_ATTEMPTS = 2


class Watch:
    """Checks a cluster at intervals while the caller waits for its tasks."""

    def __init__(self, client: distributed.Client) -> None:
        self._client = client
        self._last_look = self._last_healthy = time.monotonic()
        self._hung: Counter[str] = Counter()

    def look(self) -> None:
        """Check the cluster, unless the last check was less than `LOOK_SECONDS` ago.

        Restarts each worker on which a task of this client runs longer than `TASK_TIMEOUT`. The
        scheduler then runs the task again.

        Raises
        ------
        ClusterLostError : the cluster had no workers, or the scheduler did not answer, for longer
            than `NO_WORKERS_TIMEOUT`.
        ClusterError : a task hangs again, or hangs on a worker that cannot be restarted because the
            worker has no nanny process.
        """
        if time.monotonic() - self._last_look < LOOK_SECONDS:
            return
        fault = self._fault()
        allowed = _seconds(NO_WORKERS_TIMEOUT, _NO_WORKERS_TIMEOUT)
        if not fault:
            self._last_healthy = time.monotonic()
            self._restart_hung()
        elif time.monotonic() - self._last_healthy > allowed:
            raise ClusterLostError(f"{fault} for {allowed:.0f} s")
        self._last_look = time.monotonic()

    def _fault(self) -> str:
        """Describe what is wrong with the cluster now; "" if it has a scheduler and workers."""
        if self._client.status != "running":
            return "the Dask scheduler has not answered"
        scheduler: Any = self._client.scheduler
        try:
            identity = self._client.sync(
                scheduler.identity, n_workers=1, callback_timeout=LOOK_SECONDS
            )
        except (OSError, TimeoutError):
            return "the Dask scheduler has not answered"
        return "" if identity["workers"] else "the Dask cluster has had no workers"

    def _restart_hung(self) -> None:
        limit = _seconds(TASK_TIMEOUT, _TASK_TIMEOUT)
        try:
            hung: dict[str, tuple[str, bool]] = self._client.run_on_scheduler(
                _hung_workers, self._client.id, limit, callback_timeout=LOOK_SECONDS
            )
        except (ImportError, AttributeError, ValueError):
            # The scheduler cannot import this package or does not accept pickle.
            return
        except OSError:  # the scheduler is lost; the next check reports it
            return
        for address, (key, has_nanny) in hung.items():
            self._hung[key] += 1
            if self._hung[key] == _ATTEMPTS or not has_nanny:
                raise ClusterError(
                    f"the task {task_name(key)} has run for more than {limit:.0f} s in "
                    f"{self._hung[key]} workers, most recently in {address}"
                    f"{'' if has_nanny else ', which has no nanny to restart it'}; check what the "
                    f"task waits for there, or allow more time (Dask's option {TASK_TIMEOUT}), "
                    "then resume with --resume"
                )
        # A worker or the scheduler may be lost during the call; the next check reports it.
        with suppress(KeyError, OSError):
            if hung:
                self._client.restart_workers(
                    list(hung), timeout=_RESTART_SECONDS, raise_for_error=False
                )


def task_name(key: Any) -> str:
    """Extract the function's name from the key of a task that `tasks.task` created."""
    return str(key[0] if isinstance(key, tuple) else key).rsplit("-", 5)[0]


def _seconds(option: str, default: str) -> float:
    seconds: float = dask.utils.parse_timedelta(dask.config.get(option, None) or default)
    return seconds


def _hung_workers(
    client: str, limit: float, dask_scheduler: distributed.Scheduler
) -> dict[str, tuple[str, bool]]:
    """Find hanging tasks; this function runs on the scheduler.

    A task hangs if ``client`` waits for the task, and the task had run for more than ``limit``
    seconds at the worker's last heartbeat. Returns, by address of the worker, the key of the task
    and whether the worker has a nanny.
    """
    return {
        address: (str(task.key), bool(worker.nanny))
        for address, worker in dask_scheduler.workers.items()
        for task, seconds in worker.executing.items()
        if seconds > limit and task.processing_on is worker and _is_wanted(task, client)
    }


def _is_wanted(task: Any, client: str) -> bool:
    """Whether ``client`` waits for a task or for another task that depends on it."""
    seen, queue = {task}, [task]
    while queue:
        current = queue.pop()
        if any(state.client_key == client for state in current.who_wants or ()):
            return True
        new = current.dependents - seen
        seen |= new
        queue.extend(new)
    return False
