"""The Dask cluster of a command: a local one started here, or one that is already running."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
import dask.utils
import distributed

from srch_dist.config.options import TlsConfig
from srch_dist.errors import ClusterError, ConfigError
from srch_dist.runtime.preflight import check_readable, check_shared, check_workers
from srch_dist.runtime.progress import Progress, silent
from srch_dist.runtime.tasks import current_client
from srch_dist.runtime.watchdog import NO_WORKERS_TIMEOUT
from srch_dist.storage.locations import Location

_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 30
_ADDRESS = re.compile(r"[a-z0-9+]+://.+|[^/\\]+:\d+")
# How a worker's C library keeps freed memory (glibc; elsewhere without effect). Dask has it give
# back all that is freed, so that every partition's arrays are pages that the kernel makes anew,
# which takes longer than reading them. Blocks up to 32 MiB, the most that may be asked for, come
# from the heap, which keeps 64 MiB. Variables of the environment come before these.
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
ALLOCATOR = {
    f"{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_": 64 << 20,
    f"{_ENVIRONMENT}.MALLOC_MMAP_THRESHOLD_": 32 << 20,
}
# How long a hung worker is waited for, and a cluster without workers. Dask waits five minutes for
# the one and for ever for the other. What the user's own Dask configuration says comes first.
TIMEOUTS = {"distributed.scheduler.worker-ttl": "120s", NO_WORKERS_TIMEOUT: "120s"}


@dataclass(frozen=True)
class Tls:
    """Files of a TLS connection, PEM each: the authority's certificate, own certificate and key."""

    ca: str
    cert: str
    key: str


def tls_files(options: TlsConfig) -> Tls | None:
    """The files that options name; None where they name none.

    Raises
    ------
    ConfigError : only some of them are named.
    """
    if options.ca is None and options.cert is None and options.key is None:
        return None
    if options.ca is None or options.cert is None or options.key is None:
        raise ConfigError("tls.ca, tls.cert and tls.key belong together; name all three or none")
    return Tls(options.ca, options.cert, options.key)


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


@dataclass(frozen=True)
class ClusterRequirements:
    """What is asked of a cluster that is already running, before work begins.

    Attributes
    ----------
    workers : that have to be there. seconds : to wait at most for the scheduler, then for them.
    reads : stores that all of them have to see. writes : folders that all of them have to share.
    """

    workers: int = 1
    seconds: float = 60.0
    reads: tuple[Location, ...] = ()
    writes: tuple[Location, ...] = ()


@contextmanager
def connect(
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str = "2GiB",
    progress: Progress | None = None,
    demands: ClusterRequirements | None = None,
    tls: Tls | None = None,
) -> Iterator[Cluster]:
    """Connect to a running cluster, or start a local one that ends with the context.

    Parameters
    ----------
    scheduler : address, or the file that a scheduler writes its address to. When absent it is
        Dask's ``scheduler-address`` (the variable DASK_SCHEDULER_ADDRESS); without that a local
        cluster is started, with ``workers`` of ``memory_limit``.
    demands : of a running cluster; held against it here.
    tls : with it every connection is encrypted, and none is made with who lacks a certificate of
        the authority; without, Dask's own configuration says (``distributed.comm.tls``).

    Raises
    ------
    ClusterError : no answer in time, too few workers, or workers that cannot do the work.
    """
    progress = progress or silent()
    scheduler = scheduler or dask.config.get("scheduler-address", None)
    if scheduler is None:
        with start_local(workers, memory_limit, progress, tls) as cluster:
            yield cluster
        return
    demands = demands or ClusterRequirements()
    security = _security(tls)
    with dask.config.set(_timeouts()), _existing(scheduler, demands.seconds, security) as client:
        _await_workers(client, demands, progress)
        check_workers(client)
        for store in demands.reads:
            check_readable(client, store)
        for folder in demands.writes:
            check_shared(client, folder)
        yield _describe(client, progress)


@contextmanager
def start_local(
    workers: int | None = None,
    memory_limit: str = "2GiB",
    progress: Progress | None = None,
    tls: Tls | None = None,
) -> Iterator[Cluster]:
    """Start a cluster on this machine that ends with the context.

    It listens on the loopback interface only, and runs one thread a worker: the libraries used for
    neighbours and linear algebra are not safe with more.
    """
    progress = progress or silent()
    security, limit = _security(tls), parse_bytes(memory_limit)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}, it has to be at least 1")
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="srch-dist-"))
        # Otherwise Dask leaves a folder of lock files beside it.
        stack.enter_context(dask.config.set({"temporary-directory": scratch}))
        stack.enter_context(dask.config.set(ALLOCATOR))
        stack.enter_context(dask.config.set(_timeouts()))
        try:
            local = stack.enter_context(_local_cluster(workers, limit, scratch, security))
            client = stack.enter_context(
                distributed.Client(local, security=security, set_as_default=False)
            )
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise ClusterError(
                f"the local workers did not start ({error}); in a script, everything that trains "
                'has to stand under if __name__ == "__main__":, because workers import the script'
            ) from None
        stack.enter_context(client.as_current())
        yield _describe(client, progress)


def _timeouts() -> dict[str, str]:
    own = dask.config.collect()
    return {
        key: value
        for key, value in TIMEOUTS.items()
        if dask.config.get(key, default=None, config=own) is None
    }


def _security(tls: Tls | None) -> distributed.Security | None:
    if tls is None:
        return None
    for name, path in dataclasses.asdict(tls).items():
        if not Path(path).is_file():
            raise ConfigError(f"tls.{name} is {path}, which is not a file")
    pair = {
        f"tls_{role}_{part}": path
        for role in ("client", "scheduler", "worker")
        for part, path in (("cert", tls.cert), ("key", tls.key))
    }
    return distributed.Security(tls_ca_file=tls.ca, require_encryption=True, **pair)


def _local_cluster(
    workers: int | None, limit: int, scratch: str, security: distributed.Security | None
) -> distributed.LocalCluster:
    return distributed.LocalCluster(
        n_workers=workers or max(1, os.cpu_count() or 1),
        threads_per_worker=1,
        processes=True,
        memory_limit=limit,
        # Nothing listens beyond this machine.
        host="127.0.0.1",
        protocol="tcp://" if security is None else "tls://",
        security=security,
        dashboard_address="127.0.0.1:0",
        local_directory=scratch,
        # A failed task is reported by the command; the workers' own account would repeat it.
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _existing(
    scheduler: str, seconds: float, security: distributed.Security | None
) -> Iterator[distributed.Client]:
    start = time.monotonic()
    address = scheduler if _ADDRESS.fullmatch(scheduler) else _read_address(scheduler, seconds)
    known = current_client()
    if known is not None and known.scheduler_info()["address"] == address:
        yield known
        return
    left = max(1.0, seconds - (time.monotonic() - start))
    try:
        # A default client would stay one where it does not connect, and would not be one where
        # the caller is within a context of another.
        client = distributed.Client(address, timeout=left, security=security, set_as_default=False)
    except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
        hint = ""
        if address.startswith("tls://"):
            hint = "; tls:// needs certificates: --tls.ca, --tls.cert and --tls.key, or Dask's own"
        raise ClusterError(
            f"no Dask scheduler answers at {address} within {seconds:g} s: {error}{hint}"
        ) from None
    with client, client.as_current():
        yield client


def _read_address(name: str, seconds: float) -> str:
    """The address in a scheduler file, which may appear and fill while we wait."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return str(json.loads(Path(name).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"scheduler is {name!r}, neither an address such as tcp://HOST:8786 or "
                    f"tls://HOST:8786 nor, for {seconds:g} s, a scheduler file ({error})"
                ) from None
            time.sleep(_POLL_SECONDS)


def _await_workers(
    client: distributed.Client, demands: ClusterRequirements, progress: Progress
) -> None:
    if len(client.scheduler_info(n_workers=-1)["workers"]) < demands.workers:
        progress.note(f"waiting for {demands.workers} workers, at most {demands.seconds:g} s")
    try:
        client.wait_for_workers(demands.workers, timeout=demands.seconds)
    except TimeoutError:
        info = client.scheduler_info(n_workers=-1)
        states = [worker["status"] for worker in info["workers"].values()]
        found, address = states.count("running"), info["address"]
        raise ClusterError(
            f"{found} workers came to {address} within {demands.seconds:g} s, "
            f"{demands.workers} are needed (--workers-min, --workers-wait); start more, or see why "
            f"they do not come{_paused(client)}"
        ) from None


def _describe(client: distributed.Client, progress: Progress) -> Cluster:
    try:  # those of a cluster that was just made, or has just lost all, are on their way
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except TimeoutError:
        raise ClusterError(
            f"the cluster has had no workers for {_CONNECT_SECONDS} s; start some and try again"
            f"{_paused(client)}"
        ) from None
    found = client.scheduler_info(n_workers=-1)["workers"]
    limits = [worker["memory_limit"] for worker in found.values() if worker["memory_limit"]]
    limit = min(limits, default=parse_bytes("2GiB"))
    progress.note(
        f"{len(found)} workers of {limit / 2**30:.1f} GiB, dashboard {client.dashboard_link}"
    )
    watched = all(worker.get("nanny") for worker in found.values())
    return Cluster(len(found), int(limit), watched and _is_alone(client))


def _paused(client: distributed.Client) -> str:
    """What is to be said of workers that are there and take no work."""
    found = client.scheduler_info(n_workers=-1)["workers"].values()
    count = sum(worker["status"] == "paused" for worker in found)
    return f"; {count} are paused, since their memory is nearly full" if count else ""


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
