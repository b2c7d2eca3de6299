"""Start a Dask scheduler and workers as separate processes, as on several machines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.faults.moments import FOLDER

# Shorter timeouts than in production, for hung workers and for a cluster without workers.
PATIENCE = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "15s",
    "OMP_NUM_THREADS": "1",
}
_START_SECONDS = 180


@dataclass
class Processes:
    """A running cluster.

    Attributes
    ----------
    address : str
        Address of the scheduler.
    faults : Path
        Folder of the faults armed for its workers.
    environment : dict
        Environment variables of every process.
    scheduler : subprocess.Popen
    workers : list of subprocess.Popen
        Nannies, one per worker.
    """

    address: str
    faults: Path
    environment: dict[str, str]
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, scratch: Path, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a worker under a nanny, which restarts it if it dies."""
        command = [
            *(sys.executable, "-m", "distributed.cli.dask_worker", self.address),
            *("--nthreads", "1", "--local-directory", str(scratch), "--no-dashboard"),
            *("--host", "127.0.0.1", "--death-timeout", "60"),
            *("--preload", "pipelines.faults.moments", *options),
        ]
        worker = subprocess.Popen(
            command, env=self.environment, start_new_session=True, **_log(scratch, "worker")
        )
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        """Kill every process."""
        self.kill_workers()
        _kill(self.scheduler)

    def kill_workers(self) -> None:
        """Kill the workers and their nannies, so that none restarts."""
        for worker in self.workers:
            _kill(worker)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    for number in (signal.SIGCONT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
    process.wait()


@contextmanager
def separate_cluster(
    folder: Path, workers: int = 2, options: Sequence[str] = (), memory_limit: str = "1GiB"
) -> Iterator[Processes]:
    """Start a scheduler and workers on loopback; kill them at the end.

    Parameters
    ----------
    folder : Path
        Folder for logs, faults and worker scratch.
    workers : int
    options : sequence of str
        Further options of scheduler and workers, e.g. for TLS.
    memory_limit : str
        Memory limit per worker.
    """
    faults = folder / "faults"
    faults.mkdir(parents=True)
    root = Path(__file__).resolve().parents[2]
    environment = {
        **{"PYTHONPATH": str(root), FOLDER: str(faults)},
        **{key: value for key, value in os.environ.items() if not key.startswith("DASK_")},
        **PATIENCE,
    }
    port = _free_port()
    address = f"{'tls' if '--tls-ca-file' in options else 'tcp'}://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
        *("--port", str(port), "--no-dashboard", "--no-jupyter", *options),
    ]
    scheduler = subprocess.Popen(
        command, env=environment, start_new_session=True, **_log(folder, "scheduler")
    )
    cluster = Processes(address, faults, environment, scheduler)
    try:
        _await_port(port)
        for number in range(workers):
            scratch = folder / f"worker-{number}"
            scratch.mkdir()
            cluster.add_worker(scratch, [*options, "--memory-limit", memory_limit])
        for number in range(workers):
            _await_text(folder / f"worker-{number}" / "worker.log", "Registered to")
        yield cluster
    finally:
        cluster.end()


def _log(folder: Path, name: str) -> dict[str, object]:
    file = (folder / f"{name}.log").open("ab")
    return {"stdout": file, "stderr": subprocess.STDOUT}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_text(file: Path, text: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while text not in file.read_text(errors="replace"):
        if time.monotonic() > end:
            raise TimeoutError(f"{file}: no {text!r} within {_START_SECONDS} s")
        time.sleep(0.1)


def _await_port(port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no scheduler listens on port {port} after {_START_SECONDS} s")
