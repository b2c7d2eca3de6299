"""Start a cluster on this machine: its event loop, scheduler, workers and temporary folder."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import dask
import distributed
from distributed.utils import LoopRunner
from tornado.ioloop import IOLoop

from srch_dist.errors import ClusterError
from srch_dist.runtime.collection import without_collection
from srch_dist.runtime.machine import LocalSize
from srch_dist.runtime.main_guard import MESSAGE, end_second_import, imported_again, marking
from srch_dist.runtime.start_failures import explain_start
from srch_dist.runtime.temporary import (
    CACHE_VARIABLE,
    CACHED_MODULE,
    lacks_cache_folder,
    temporary_folder,
)
from srch_dist.runtime.tls import Tls, one_time_security, security_of

# How much freed memory a worker's glibc keeps, in bytes. Dask's default returns all of it to the
# kernel, which then zeroes new pages for the arrays of every partition. That takes longer than
# reading the arrays. Here blocks up to 32 MiB (the largest value that glibc accepts) come from the
# heap, which keeps 64 MiB free. Environment variables take precedence. Other C libraries ignore
# both variables.
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
ALLOCATOR = {
    f"{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_": 64 << 20,
    f"{_ENVIRONMENT}.MALLOC_MMAP_THRESHOLD_": 32 << 20,
}
# An option of this package in Dask's configuration: serve Dask's dashboard on 127.0.0.1. It is
# plain HTTP without a password, so every user of the machine can read it.
DASHBOARD = "srch-dist.dashboard"
# Without the dashboard, Dask's HTTP servers have no pages: no metrics, no state, no proxy.
_NO_PAGES: dict[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
# Signals that a terminal sends to all processes of a command. This process handles them and ends
# its workers, which would otherwise stop in the middle of a task, each with a traceback.
_OF_TERMINALS = {signal.SIGINT, signal.SIGHUP}
# Longest wait for workers to end. The end of this process ends those that remain.
_STOP_SECONDS = 20.0


def shows_dashboard() -> bool:
    """Whether a local cluster serves Dask's dashboard."""
    return bool(dask.config.get(DASHBOARD, default=False))


@contextmanager
def local_client(size: LocalSize, tls: Tls | None) -> Iterator[distributed.Client]:
    """Start a cluster on the loopback interface, yield its client, and close both at the end.

    Parameters
    ----------
    tls : files of the TLS connections; default: a certificate made for this cluster.

    Raises
    ------
    ClusterError : the workers do not start.
    StorageError : no temporary folder is writable.
    """
    end_second_import()
    security = one_time_security() if tls is None else security_of(tls)
    with ExitStack() as stack:
        scratch = stack.enter_context(temporary_folder())
        # Without this, Dask leaves a folder of lock files beside the scratch folder.
        stack.enter_context(dask.config.set({"temporary-directory": scratch}))
        stack.enter_context(dask.config.set(ALLOCATOR))
        if lacks_cache_folder(CACHED_MODULE):  # workers share one, which outlasts their restarts
            cache = {f"{_ENVIRONMENT}.{CACHE_VARIABLE}": f"{scratch}/numba"}
            stack.enter_context(dask.config.set(cache))
        if not shows_dashboard():
            stack.enter_context(dask.config.set(_NO_PAGES))
        loop = stack.enter_context(_event_loop())
        try:
            with marking(scratch):
                address = stack.enter_context(_running(loop, size, scratch, security))
            with without_collection():
                client = distributed.Client(
                    address, security=security, loop=loop, set_as_default=False
                )
        except (RuntimeError, OSError, ValueError, KeyError, TimeoutError) as error:
            if imported_again(scratch):
                raise ClusterError(MESSAGE) from None
            reason = explain_start(error, size.workers)
            raise ClusterError(f"the local workers did not start: {reason}") from None
        stack.enter_context(client)
        stack.enter_context(client.as_current())
        yield client


@contextmanager
def _event_loop() -> Iterator[IOLoop]:
    """Run an event loop in a thread, and yield the loop.

    The thread blocks the signals `_OF_TERMINALS` and starts the workers. A new process inherits the
    blocked signals of the thread that starts the process. So the workers block these signals too.
    """
    runner = LoopRunner()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINALS)
    try:
        # Otherwise it starts with the first worker, and unblocks SIGINT in that worker's thread.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINALS)
        with without_collection():
            runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield runner.loop
    finally:
        with without_collection():
            runner.stop()


@contextmanager
def _running(
    loop: IOLoop, size: LocalSize, scratch: str, security: distributed.Security | None
) -> Iterator[str]:
    """Start a scheduler and workers on ``loop``, yield the scheduler's address, then close them."""
    made: list[distributed.LocalCluster] = []

    async def start() -> str:
        made.append(_make(size, scratch, security))
        await made[0]
        return str(made[0].scheduler_address)

    async def stop() -> None:
        for cluster in made:
            await cluster.close()  # type: ignore[misc]

    starting = _submit(loop, start())
    try:
        yield starting.result()
    finally:
        # Workers that are starting when the caller is interrupted would outlive their cluster.
        with suppress(Exception):
            starting.result(_STOP_SECONDS)
        with suppress(Exception):
            _submit(loop, stop()).result(_STOP_SECONDS)


def _submit(loop: IOLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, loop.asyncio_loop)  # type: ignore[attr-defined]


def _make(
    size: LocalSize, scratch: str, security: distributed.Security | None
) -> distributed.LocalCluster:
    return distributed.LocalCluster(
        asynchronous=True,
        n_workers=size.workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=size.memory_limit,
        host="127.0.0.1",
        protocol="tls://" if security else "tcp://",  # plain in pipelines.scale.local_tls
        security=security,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": shows_dashboard()},
        local_directory=scratch,
        # The command reports a failed task. The worker's log would repeat the report.
        silence_logs=logging.CRITICAL,
    )
