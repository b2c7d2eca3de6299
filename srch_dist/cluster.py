"""The Dask cluster of a command: a local one started here, or one that is already running."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import dask
import dask.utils
import distributed

from srch_dist.errors import ClusterError, ConfigError
from srch_dist.execution import current_client
from srch_dist.progress import Progress, silent

_CONNECT_SECONDS = 30
# How a worker's C library keeps freed memory (glibc; elsewhere without effect). Dask has it give
# back all that is freed, so that every partition's arrays are pages that the kernel makes anew,
# which takes longer than reading them. Blocks up to 32 MiB, the most that may be asked for, come
# from the heap, which keeps 64 MiB. Variables of the environment come before these.
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
ALLOCATOR = {
    f"{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_": 64 << 20,
    f"{_ENVIRONMENT}.MALLOC_MMAP_THRESHOLD_": 32 << 20,
}


@dataclass(frozen=True)
class Cluster:
    """What a plan needs to know of a cluster.

    Attributes
    ----------
    workers : worker processes. memory_limit : bytes that the smallest of them may use.
    restarts : whether its workers may be started anew: nobody else uses them, and something
        watches over each of them.
    """

    workers: int
    memory_limit: int
    restarts: bool = False


@contextmanager
def connect(
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str = "2GiB",
    progress: Progress | None = None,
) -> Iterator[Cluster]:
    """Connect to ``scheduler``, or start a local cluster that ends with the context.

    A local cluster listens on the loopback interface only, and runs one thread a worker: the
    libraries used for neighbours and linear algebra are not safe with more.
    """
    progress = progress or silent()
    if scheduler is not None:
        with _existing(scheduler) as client:
            yield _describe(client, progress)
        return
    limit = parse_bytes(memory_limit)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}, it has to be at least 1")
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="srch-dist-"))
        # Otherwise Dask leaves a folder of lock files beside it.
        stack.enter_context(dask.config.set({"temporary-directory": scratch}))
        stack.enter_context(dask.config.set(ALLOCATOR))
        try:
            local = stack.enter_context(_local_cluster(workers, limit, scratch))
            client = stack.enter_context(distributed.Client(local))
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise ClusterError(
                f"the local workers did not start ({error}); in a script, everything that trains "
                'has to stand under if __name__ == "__main__":, because workers import the script'
            ) from None
        yield _describe(client, progress)


def _local_cluster(workers: int | None, limit: int, scratch: str) -> distributed.LocalCluster:
    return distributed.LocalCluster(
        n_workers=workers or max(1, os.cpu_count() or 1),
        threads_per_worker=1,
        processes=True,
        memory_limit=limit,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=scratch,
        # A failed task is reported by the command; the workers' own account would repeat it.
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _existing(address: str) -> Iterator[distributed.Client]:
    known = current_client()
    if known is not None and known.scheduler is not None and known.scheduler.address == address:
        yield known
        return
    try:
        client = distributed.Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(f"no Dask scheduler answers at {address}: {error}") from None
    try:
        yield client
    finally:
        client.close()


def _describe(client: distributed.Client, progress: Progress) -> Cluster:
    found = client.scheduler_info(n_workers=-1)["workers"]
    if not found:
        raise ClusterError("the cluster has no workers; start some and try again")
    limits = [worker["memory_limit"] for worker in found.values() if worker["memory_limit"]]
    limit = min(limits, default=parse_bytes("2GiB"))
    progress.note(
        f"{len(found)} workers of {limit / 2**30:.1f} GiB, dashboard {client.dashboard_link}"
    )
    watched = all(worker.get("nanny") for worker in found.values())
    return Cluster(len(found), int(limit), watched and _is_alone(client))


def _is_alone(client: distributed.Client) -> bool:
    """Whether nobody else uses the scheduler; taken as not so where it lacks this package."""
    try:
        count: int = client.run_on_scheduler(_count_clients)
    except ImportError:
        return False
    return count == 1


def _count_clients(dask_scheduler: distributed.Scheduler) -> int:
    return sum(name.startswith("Client-") for name in dask_scheduler.clients)


def parse_bytes(text: str) -> int:
    """Bytes of a memory limit such as 2GiB; raises ConfigError."""
    try:
        size = int(dask.utils.parse_bytes(text))
    except ValueError:
        size = 0
    if size < 1 or not text.strip()[:1].isdigit():
        raise ConfigError(f"memory_limit is {text!r}; write for example 2GiB")
    return size
