"""Waits that would have no end: without workers or scheduler, or for a task that hangs."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Any

import dask
import dask.utils
import distributed

from srch_dist.errors import ClusterError, ClusterLostError

# How long a cluster may be without workers, or a scheduler without an answer: Dask's own option.
NO_WORKERS_TIMEOUT = "distributed.scheduler.no-workers-timeout"
# How long one task may run in a worker that is alive: an option of this package among Dask's,
# which has none. A task is planned to take minutes at most.
TASK_TIMEOUT = "srch-dist.task-timeout"
_TASK_TIMEOUT, _NO_WORKERS_TIMEOUT = "1h", "120s"
# Seconds between two looks at the cluster, and those that its answer may take.
LOOK_SECONDS = 10.0
_RESTART_SECONDS = 120
# Workers in which one task may hang before it is given up.
_TRIES = 2


class Watch:
    """Looks at a cluster from time to time while one waits for it."""

    def __init__(self, client: distributed.Client) -> None:
        self._client = client
        self._looked = self._well = time.monotonic()
        self._hung: Counter[str] = Counter()

    def look(self) -> None:
        """End what has no end by itself; does nothing where it was called just before.

        Workers in which a task of this client has run for too long are started anew, and the task
        with them.

        Raises
        ------
        ClusterLostError : nothing has been well for as long as is allowed.
        ClusterError : a task hung again, or there is nothing to start its worker anew.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        trouble = self._trouble()
        allowed = _seconds(NO_WORKERS_TIMEOUT, _NO_WORKERS_TIMEOUT)
        if not trouble:
            self._well = time.monotonic()
            self._restart_hung()
        elif time.monotonic() - self._well > allowed:
            raise ClusterLostError(f"{trouble} for {allowed:.0f} s")
        self._looked = time.monotonic()

    def _trouble(self) -> str:
        if self._client.status != "running":
            return "the Dask scheduler has not answered"
        scheduler: Any = self._client.scheduler
        try:
            found = self._client.sync(
                scheduler.identity, n_workers=1, callback_timeout=LOOK_SECONDS
            )
        except (OSError, TimeoutError):
            return "the Dask scheduler has not answered"
        return "" if found["workers"] else "the Dask cluster has had no workers"

    def _restart_hung(self) -> None:
        limit = _seconds(TASK_TIMEOUT, _TASK_TIMEOUT)
        try:
            hung: dict[str, tuple[str, bool]] = self._client.run_on_scheduler(
                _hung_workers, self._client.id, limit, callback_timeout=LOOK_SECONDS
            )
        except (ImportError, AttributeError, ValueError):  # without this package, or pickle
            return
        except OSError:  # lost just now, as the next look sees
            return
        for address, (key, watched) in hung.items():
            self._hung[key] += 1
            if self._hung[key] == _TRIES or not watched:
                raise ClusterError(
                    f"the task {task_name(key)} has run for more than {limit:.0f} s in "
                    f"{self._hung[key]} workers, lastly {address}"
                    f"{'' if watched else ', which has no nanny to start it again'}; see what it "
                    f"waits for there, or let tasks run for longer (Dask's option {TASK_TIMEOUT}), "
                    "then go on with --resume"
                )
        # A worker or the scheduler may have gone by itself meanwhile; the next look says so.
        with suppress(KeyError, OSError):
            if hung:
                self._client.restart_workers(
                    list(hung), timeout=_RESTART_SECONDS, raise_for_error=False
                )


def task_name(key: Any) -> str:
    """The function of a task, out of its key."""
    return str(key[0] if isinstance(key, tuple) else key).rsplit("-", 5)[0]


def _seconds(option: str, default: str) -> float:
    seconds: float = dask.utils.parse_timedelta(dask.config.get(option, None) or default)
    return seconds


def _hung_workers(
    client: str, limit: float, dask_scheduler: distributed.Scheduler
) -> dict[str, tuple[str, bool]]:
    """Workers in which a task for a client has run for more than ``limit`` seconds.

    Each with the key of the task, and whether a nanny watches over the worker; as of their last
    heartbeats.
    """
    return {
        address: (str(task.key), bool(worker.nanny))
        for address, worker in dask_scheduler.workers.items()
        for task, seconds in worker.executing.items()
        if seconds > limit and task.processing_on is worker and _is_wanted(task, client)
    }


def _is_wanted(task: Any, client: str) -> bool:
    """Whether a task, or one that depends on it, is waited for by a client."""
    seen, left = {task}, [task]
    while left:
        one = left.pop()
        if any(state.client_key == client for state in one.who_wants or ()):
            return True
        new = one.dependents - seen
        seen |= new
        left.extend(new)
    return False
