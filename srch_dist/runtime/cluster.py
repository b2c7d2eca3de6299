"""The Dask cluster of a command: start a local one, or connect to a running one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
import distributed

from srch_dist.config.options import ClusterOptions, TrainConfig
from srch_dist.errors import ClusterError
from srch_dist.runtime.collection import without_collection
from srch_dist.runtime.dask_settings import check_client_settings, check_local_settings
from srch_dist.runtime.local_cluster import local_client, shows_dashboard
from srch_dist.runtime.machine import check_local_size, local_size
from srch_dist.runtime.preflight import check_readable, check_shared, check_workers
from srch_dist.runtime.progress import Progress, silent
from srch_dist.runtime.tasks import current_client
from srch_dist.runtime.tls import Tls, security_of, tls_files
from srch_dist.runtime.watchdog import NO_WORKERS_TIMEOUT
from srch_dist.storage.locations import Location

_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 30
# Memory limit that a plan assumes for workers without one.
_UNLIMITED_BYTES = 2 << 30
_ADDRESS = re.compile(r"[a-z0-9+]+://.+|[^/\\]+:\d+")
# Maximum wait for a worker that does not answer, and for a cluster without workers. Dask's defaults
# are five minutes and no limit. The user's Dask configuration takes precedence.
TIMEOUTS = {"distributed.scheduler.worker-ttl": "120s", NO_WORKERS_TIMEOUT: "120s"}


@dataclass(frozen=True)
class Cluster:
    """Size of a connected cluster, for which the plan is made.

    Attributes
    ----------
    workers : number of worker processes.
    memory_limit : memory limit of the smallest worker, in bytes.
    restarts : whether this command may restart workers: it is the only client, and every worker
        has a nanny.
    """

    workers: int
    memory_limit: int
    restarts: bool = False


@dataclass(frozen=True)
class ClusterRequirements:
    """Requirements that a running cluster must meet before work starts.

    Attributes
    ----------
    workers : number of workers to wait for.
    seconds : maximum seconds to wait for the scheduler, and again as many for the workers.
    reads : stores that every worker must be able to read.
    writes : folders that every worker and this process must share.
    """

    workers: int = 1
    seconds: float = 60.0
    reads: tuple[Location, ...] = ()
    writes: tuple[Location, ...] = ()


@contextmanager
def connect(
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str | None = None,
    progress: Progress | None = None,
    demands: ClusterRequirements | None = None,
    tls: Tls | None = None,
) -> Iterator[Cluster]:
    """Connect to a running cluster, or start a local cluster for the time of this context.

    Parameters
    ----------
    scheduler : address of a scheduler, or path of its scheduler file. Default: Dask's option
        ``scheduler-address`` (variable DASK_SCHEDULER_ADDRESS). Without either, a local cluster is
        started.
    workers, memory_limit : size of a local cluster; see `start_local`.
    demands : requirements that a running cluster must meet.
    tls : files for encrypted connections. The scheduler, the workers and this process then need
        certificates that the authority ``tls.ca`` signed.
        Default: Dask's configuration (``distributed.comm.tls``); for a local cluster, a new
        certificate for this cluster only.

    Raises
    ------
    ClusterError : the scheduler does not answer in time, there are too few workers, or workers do
        not meet a requirement.
    """
    progress = progress or silent()
    scheduler = scheduler or dask.config.get("scheduler-address", None)
    if scheduler is None:
        with start_local(workers, memory_limit, progress, tls) as cluster:
            yield cluster
        return
    check_client_settings()
    demands = demands or ClusterRequirements()
    security = None if tls is None else security_of(tls)
    with dask.config.set(_timeouts()), _existing(scheduler, demands.seconds, security) as client:
        _await_workers(client, demands, progress)
        check_workers(client)
        for store in demands.reads:
            check_readable(client, store)
        for folder in demands.writes:
            check_shared(client, folder)
        yield _describe(client, progress)


def connect_for(
    options: ClusterOptions | TrainConfig,
    progress: Progress,
    reads: tuple[Location, ...] = (),
    writes: tuple[Location, ...] = (),
) -> AbstractContextManager[Cluster]:
    """Call `connect` with the cluster options of a command.

    Parameters
    ----------
    reads : stores that every worker must be able to read.
    writes : folders that every worker and this process must share.

    Raises
    ------
    ConfigError : only one or two of the three TLS files are set.
    """
    if isinstance(options, TrainConfig):
        needs = ClusterRequirements(options.workers_min, options.workers_wait, reads, writes)
    else:
        needs = ClusterRequirements(reads=reads, writes=writes)
    tls = tls_files(options.tls)
    return connect(options.scheduler, options.workers, options.memory_limit, progress, needs, tls)


@contextmanager
def start_local(
    workers: int | None = None,
    memory_limit: str | None = None,
    progress: Progress | None = None,
    tls: Tls | None = None,
) -> Iterator[Cluster]:
    """Start a cluster on this machine for the time of this context.

    The cluster listens on the loopback interface only. A worker runs one thread, because the
    libraries for neighbour search and linear algebra are not safe with more threads.

    Parameters
    ----------
    workers, memory_limit : size of the cluster; see `machine.local_size`.
    tls : files for encrypted connections. Default: a key and a certificate for this cluster, in
        memory, so that no other process can connect.

    Raises
    ------
    ClusterError : the workers do not start.
    ConfigError : a value is invalid or beyond the memory of this machine, or a Dask setting would
        stop every worker.
    StorageError : no temporary folder is writable.
    """
    size = local_size(workers, memory_limit)
    check_local_size(size)
    check_local_settings(size.memory_limit)
    with dask.config.set(_timeouts()), local_client(size, tls) as client:
        yield _describe(client, progress or silent(), shows_dashboard())


def _timeouts() -> dict[str, str]:
    """Return `TIMEOUTS` without the entries that the user's Dask configuration sets."""
    users = dask.config.collect()
    return {
        key: value
        for key, value in TIMEOUTS.items()
        if dask.config.get(key, default=None, config=users) is None
    }


@contextmanager
def _existing(
    scheduler: str, seconds: float, security: distributed.Security | None
) -> Iterator[distributed.Client]:
    """Yield the current client if it is connected to ``scheduler``, else a new client.

    ``scheduler`` is the address of a running scheduler, or the name of its scheduler file.
    """
    start = time.monotonic()
    address = scheduler if _ADDRESS.fullmatch(scheduler) else _read_address(scheduler, seconds)
    current = current_client()
    if current is not None and current.scheduler_info()["address"] == address:
        yield current
        return
    left = max(1.0, seconds - (time.monotonic() - start))
    try:
        # With set_as_default, a client that fails to connect would stay the default. In a context
        # of another client, the new client would not become the default.
        with without_collection():
            client = distributed.Client(
                address, timeout=left, security=security, set_as_default=False
            )
    except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
        hint = ""
        if address.startswith("tls://"):
            hint = (
                ". A tls:// address needs certificates: set --tls.ca, --tls.cert and --tls.key, or "
                "Dask's setting distributed.comm.tls"
            )
        raise ClusterError(
            f"no Dask scheduler answers at {address} within {seconds:g} s: {error}{hint}"
        ) from None
    with client, client.as_current():
        yield client


def _read_address(name: str, seconds: float) -> str:
    """Read the address in a scheduler file; wait up to ``seconds`` until the file is complete."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return str(json.loads(Path(name).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"scheduler is {name!r}. It is no address such as tcp://HOST:8786 or "
                    f"tls://HOST:8786, and did not become a complete scheduler file within "
                    f"{seconds:g} s ({error})"
                ) from None
            time.sleep(_POLL_SECONDS)


def _await_workers(
    client: distributed.Client, demands: ClusterRequirements, progress: Progress
) -> None:
    if len(client.scheduler_info(n_workers=-1)["workers"]) < demands.workers:
        progress.note(f"cluster: waiting up to {demands.seconds:g} s for {demands.workers} workers")
    try:
        client.wait_for_workers(demands.workers, timeout=demands.seconds)
    except TimeoutError:
        info = client.scheduler_info(n_workers=-1)
        states = [worker["status"] for worker in info["workers"].values()]
        running, address = states.count("running"), info["address"]
        raise ClusterError(
            f"{running} workers joined {address} within {demands.seconds:g} s, but "
            f"{demands.workers} are needed (--workers-min, --workers-wait). Start more workers, or "
            f"check why workers do not join{_paused(client)}"
        ) from None


def _describe(
    client: distributed.Client, progress: Progress, has_dashboard: bool = True
) -> Cluster:
    try:  # workers of a new cluster, or of one that restarts them, may not have joined yet
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except TimeoutError:
        raise ClusterError(
            f"the cluster has had no workers for {_CONNECT_SECONDS} s. Start workers and try again"
            f"{_paused(client)}"
        ) from None
    workers = client.scheduler_info(n_workers=-1)["workers"]
    limits = [worker["memory_limit"] for worker in workers.values() if worker["memory_limit"]]
    limit = min(limits, default=_UNLIMITED_BYTES)
    dashboard = f", dashboard {client.dashboard_link}" if has_dashboard else ""
    progress.note(f"cluster: {len(workers)} workers of {limit / 2**30:.1f} GiB{dashboard}")
    have_nannies = all(worker.get("nanny") for worker in workers.values())
    return Cluster(len(workers), int(limit), have_nannies and _is_alone(client))


def _paused(client: distributed.Client) -> str:
    """Return a sentence with the number of paused workers; "" if no worker is paused."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    count = sum(worker["status"] == "paused" for worker in workers)
    return f". Paused workers, whose memory is nearly full: {count}" if count else ""


def _is_alone(client: distributed.Client) -> bool:
    """Whether ``client`` is the only client of its scheduler.

    Returns False if the scheduler cannot import this package and so cannot count its clients.
    """
    try:
        count: int = client.run_on_scheduler(_count_clients)
    except ImportError:
        return False
    return count == 1


def _count_clients(dask_scheduler: distributed.Scheduler) -> int:
    return sum(name.startswith("Client-") for name in dask_scheduler.clients)
