"""Hosts that have no path in common: an object store is all that they share.

Scheduler, S3 server and commands are on hosts of their own, and four workers on four more. Killing
the process that answers as S3 cuts all of its connections. moto, behind it on the same host, keeps
the objects, as a real store would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.faults.cluster import PATIENCE
from pipelines.faults.hosts import network
from pipelines.faults.moments import FOLDER, arm, disarm
from srch_dist.encode.batch import encode_store
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.storage import arrays
from tests.helpers import killed_runs
from tests.helpers.faults import LIMIT, await_fault, option_words
from tests.helpers.runs import train_here

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SCHEDULER, S3, COMMAND, OTHER, *WORKERS = range(1, 9)
DATA, RUN = "s3://bucket/pairs.zarr", "s3://bucket/runs/hosts"
OPTIONS = killed_runs.OPTIONS
# Restarts a worker that has closed itself, as a service manager or Kubernetes would.
SUPERVISED = 'while true; do "$@"; sleep 1; done'
MAKE_BUCKET = "import boto3; boto3.client('s3', endpoint_url='{}').create_bucket(Bucket='bucket')"
READ = (
    "import sys, numpy as np; from srch_dist.storage import arrays; "
    "np.save(sys.argv[2], arrays.read_rows(sys.argv[1]))"
)


class Site:
    """The hosts, with their processes started."""

    def __init__(self, hosts, folder: Path) -> None:
        self.hosts, self.folder, self.faults = hosts, folder, folder / "faults"
        self.endpoint = f"http://{hosts.address(S3)}:9000"
        self.address = f"tcp://{hosts.address(SCHEDULER)}:8786"
        self.environment = {
            **PATIENCE,
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s",
            **{"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
            **{"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1"},
            **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        }

    def start(self, host: int, name: str, *command: str, writable: Path | None = None, **more):
        log = str(self.folder / f"{name}.log")
        return self.hosts.start(host, command, {**self.environment, **more}, log, writable)

    def run(self, host: int, name: str, *command: str, writable: Path | None = None) -> str:
        """Run a command to its end; return its output."""
        log = self.folder / f"{name}.log"
        status = self.start(host, name, *command, writable=writable).wait(timeout=LIMIT)
        assert status == 0, log.read_text()
        return log.read_text()

    def start_s3(self) -> None:
        front = str(ROOT / "tests" / "helpers" / "s3_front.py")
        self.front = self.start(
            *(S3, "front", sys.executable, front, "5000", "9000", "/srv", self.hosts.address(S3))
        )

    def begin(self) -> None:
        moto = str(Path(sys.executable).with_name("moto_server"))
        self.start(S3, "moto", moto, "-H", "127.0.0.1", "-p", "5000")
        self.start_s3()
        python = (sys.executable, "-m")
        own = (f"{self.hosts.address(SCHEDULER)}", "--no-dashboard")
        self.start(
            SCHEDULER, "scheduler", *python, "distributed.cli.dask_scheduler", "--host", *own
        )
        for host in WORKERS:
            worker = (
                *(*python, "distributed.cli.dask_worker", self.address, "--nthreads", "1"),
                *("--host", self.hosts.address(host), "--no-dashboard", "--memory-limit", "1GiB"),
                *("--local-directory", "/srv/dask", "--death-timeout", "60"),
            )
            self.start(host, f"worker{host}", "sh", "-c", SUPERVISED, "sh", *worker)
        make = MAKE_BUCKET.format(self.endpoint)
        for _ in range(60):
            if self.start(COMMAND, "bucket", sys.executable, "-c", make).wait(60) == 0:
                return
            time.sleep(1)
        raise TimeoutError((self.folder / "bucket.log").read_text())

    def train(self, host: int, out: str):
        """Start training with ``resume`` on a host; faults of its process are in ``faults``."""
        words = [*option_words(OPTIONS), "--bits", "16", "--graph.k", "5", "--no-report"]
        return self.start(
            *(host, f"train{host}", sys.executable, "-m", "pipelines.faults.client", "train"),
            *("--data", DATA, "--out", out, "--resume", "--scheduler", self.address, *words),
            **{"writable": self.faults, FOLDER: str(self.faults)},
        )

    def codes(self, url: str) -> np.ndarray:
        file = self.faults / "codes.npy"
        self.run(COMMAND, "read", sys.executable, "-c", READ, url, str(file), writable=self.faults)
        return np.load(file)


@pytest.fixture(scope="module")
def site(small_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "faults").mkdir()
    made = network(f"srchalone{os.getpid()}", len(range(1, 9)), alone=True)
    try:
        hosts = made.__enter__()
    except PermissionError as error:
        pytest.skip(str(error))
    try:
        running = Site(hosts, folder)
        running.begin()
        source = str(Path(small_store.path).parent / "pairs.npz")
        rows = ("--rows-per-chunk", "25")
        running.run(
            COMMAND, "ingest", sys.executable, "-m", "srch_dist.ingest", source, DATA, *rows
        )
        yield running
    finally:
        made.__exit__(None, None, None)


@pytest.fixture(scope="module")
def local(small_store, tmp_path_factory):
    """The same run on one disk."""
    return train_here(small_store.path, tmp_path_factory.mktemp("local") / "run", **OPTIONS).run


def test_hosts_have_no_path_in_common(site):
    write = "echo here > /srv/mark; ! echo there > {}/mark; ! echo there > /tmp/mark; ls /srv"
    for host in (COMMAND, WORKERS[0]):
        found = site.run(host, f"write{host}", "sh", "-c", write.format(site.folder))
        assert found.split()[-1] == "mark"
        assert found.count("Read-only file system") == 2
    assert not (site.folder / "mark").exists()
    assert "mark" not in site.run(WORKERS[1], "look", "ls", "/srv")


@pytest.mark.fault(
    "S3 alone, 8 hosts: a worker's host killed, a link cut, the server restarted", "survived"
)
def test_run_of_hosts_without_a_disk(site, local, small_store, tmp_path):
    arm(site.faults, "commit", "hold", 1)
    client = site.train(COMMAND, RUN)
    await_fault(site.faults)  # the client blocks before it commits the first iteration
    site.hosts.cut(WORKERS[0])
    site.hosts.kill(WORKERS[1])
    site.front.kill()
    (site.faults / "go").touch()
    time.sleep(5)
    site.start_s3()
    time.sleep(15)
    site.hosts.restore(WORKERS[0])
    assert client.wait(timeout=LIMIT) == 0, (site.folder / f"train{COMMAND}.log").read_text()
    disarm(site.faults)
    site.faults.mkdir()
    np.testing.assert_array_equal(site.codes(f"{RUN}/codes.zarr"), arrays.read_rows(local.codes))

    srch = (sys.executable, "-m")
    reached = ("--scheduler", site.address)
    given = ("--model", RUN, "--data", DATA)
    out = "s3://bucket/codes.zarr"
    encoding = (*given, "--modality", "text", "--out", out)
    site.run(COMMAND, "encode", *srch, "srch_dist.encode", *encoding, *reached)
    expected = encode_store(local.path, small_store.path, "text", tmp_path / "text.zarr")
    np.testing.assert_array_equal(site.codes(out), arrays.read_rows(expected))

    file = site.faults / "scores.json"
    scoring = (*srch, "srch_dist.evaluate", *given, *reached, "--json", str(file))
    site.run(COMMAND, "evaluate", *scoring, writable=site.faults)
    found = json.loads(file.read_text())
    expected = json.loads(json.dumps(evaluate_model(local.path, small_store.path)))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.fault("S3 alone, 8 hosts: the command's host killed, resumed on another", "survived")
def test_run_is_resumed_on_another_host(site, local):
    out = f"{RUN}-resumed"
    arm(site.faults, "commit", "hold", 2)
    client = site.train(COMMAND, out)
    await_fault(site.faults)
    site.hosts.kill(COMMAND)
    assert client.wait(timeout=LIMIT) != 0
    disarm(site.faults)
    site.faults.mkdir()
    # The lease of a host that cannot be asked is watched until it expires.
    log = site.folder / f"train{OTHER}.log"
    assert site.train(OTHER, out).wait(timeout=LIMIT) == 0, log.read_text()
    assert "resuming after iteration 1" in log.read_text()
    np.testing.assert_array_equal(site.codes(f"{out}/codes.zarr"), arrays.read_rows(local.codes))
