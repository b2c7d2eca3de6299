"""The containers of the TLS overlay run as processes, with their commands, variables and mounts.

Each process runs on its own host, read-only except for its volumes, as in the manifests.
"""

import os
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import trustme
import yaml

from srch_dist.config.loading import build_config
from srch_dist.config.options import TrainConfig
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.runner import train_model
from tests.helpers.hosts import hosts
from tests.helpers.manifests import ROOT, build, one, process
from tests.helpers.processes import SECONDS, processes

pytestmark = pytest.mark.root

# Variables of the image that a test can set, too.
IMAGE = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
GIB = 1 << 30


class Pods:
    """Starts pods of the overlay, each on its own host."""

    def __init__(self, folder: Path, network, started) -> None:
        self.folder, self.network, self.started = folder, network, started
        self.documents = build("overlays/tls")
        self.volumes = {name: folder / name for name in ("work", "run", "tls")}

    def start(self, name: str, host: str) -> subprocess.Popen:
        """Start the process of container ``name`` on ``host``, which is also the pod's name."""
        container = process(self.documents, name, host)
        args = list(container.args)
        if name == "worker":  # the test machine has less memory than a pod
            args[args.index("--memory-limit") + 1] = str(2 * GIB)
        return self.started.start(host, [*self.program(args)], *self.environment(container, host))

    def run(self, name: str, host: str, command: list[str]) -> subprocess.CompletedProcess:
        """Run a command in a container on ``host``, as a probe or hook does."""
        env, prefix = self.environment(process(self.documents, name, host), host)
        return subprocess.run(
            [*prefix, *self.program(command)],
            env={**os.environ, **env}, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip

    def program(self, args: list[str]) -> list[str]:
        """The command with the programs of the test environment and the files of deploy/."""
        first = {"python": [sys.executable], "dask": [sys.executable, "-m", "dask"]}[args[0]]
        return [*first, *(a.replace("/opt/", f"{ROOT}/deploy/") for a in args[1:])]

    def environment(self, container, host: str) -> tuple[dict[str, str], list[str]]:
        """Variables of a container, and the command prefix that sets up its mounts."""
        local = self.folder / f"{host}-own"
        mounts = {}
        for path, volume in container.mounts.items():
            source = self.volumes.get(volume, local / volume)
            source.mkdir(parents=True, exist_ok=True)
            if path != "/tmp":
                mounts[path] = source
        tmp = local / "tmp"
        env = {**IMAGE, **container.env, "TMPDIR": str(tmp), "HOME": str(tmp)}
        return {**env, "NUMBA_CACHE_DIR": str(tmp)}, self.network.prefix(host, mounts, tmp)


@pytest.fixture
def pods(tmp_path):
    names = ("srch-dist-scheduler", "worker-1", "worker-2", "train")
    with hosts(tmp_path, *names) as network, processes(tmp_path) as started:
        overlay = Pods(tmp_path, network, started)
        for folder in overlay.volumes.values():
            folder.mkdir()
        _write_certificates(overlay.volumes["tls"])
        with resources.as_file(
            resources.files("srch_dist.ingest") / "data" / "emoji.npz"
        ) as source:
            ingest_source(source, overlay.volumes["work"] / "features.zarr")
        settings = yaml.safe_load(
            one(overlay.documents, "ConfigMap", "srch-dist-run")["data"]["run.yaml"]
        )
        # Two workers are enough here; codes do not depend on their number.
        settings |= {"workers_min": 2}
        (overlay.volumes["run"] / "run.yaml").write_text(yaml.safe_dump(settings))
        yield overlay


def _write_certificates(folder: Path) -> None:
    """Write the files of the secret as cert-manager writes them."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    certificate = authority.issue_cert("srch-dist-scheduler", key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "tls.crt", append=True)


def _local_codes(folder: Path, settings: dict) -> np.ndarray:
    options = {**settings, "out": str(folder / "local"), "workers": 1, "evaluate": False}
    options["data"] = str(folder / "work" / "features.zarr")
    return arrays.read_rows(train_model(build_config(options)).run.codes)


def _iterations(run: RunDirectory) -> int:
    return len(run.history()) if (run.path / "history.jsonl").exists() else 0


def test_containers_train_the_same_codes_when_workers_are_killed_and_retired(pods):
    started = pods.started
    pods.start("scheduler", "srch-dist-scheduler")
    started.await_text("srch-dist-scheduler", "tls://10.77.0.1:8786")
    for host in ("worker-1", "worker-2"):
        pods.start("worker", host)
        started.await_text(host, "Registered to:")
    for name, host in (("scheduler", "srch-dist-scheduler"), ("worker", "worker-1")):
        assert pods.run(name, host, ["python", "/opt/health.py"]).returncode == 0
    # Everything except the volumes is read-only.
    probe = ["python", "-c", "open('/etc/srch-dist-probe', 'w')"]
    assert "Read-only file system" in pods.run("worker", "worker-1", probe).stderr

    pods.start("train", "train")
    run = RunDirectory(pods.volumes["work"] / "runs" / "first")
    started.await_true(lambda: _iterations(run) >= 1, "iteration")
    started.kill("worker-2")
    started.running["worker-2"].wait(SECONDS)
    # The ReplicaSet would start a replacement.
    pods.start("worker", "worker-2")
    started.await_text("worker-2", "Registered to:", times=2)
    assert started.running["train"].poll() is None, "the run ended before the worker restarted"
    hook = process(pods.documents, "worker", "").container["lifecycle"]["preStop"]["exec"]
    done = pods.run("worker", "worker-1", hook["command"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "retired tls://10.77.0.2:8788" in done.stdout
    assert started.wait("worker-1") == 0
    assert started.wait("train") == 0, started.text("train")

    settings = yaml.safe_load((pods.volumes["run"] / "run.yaml").read_text())
    np.testing.assert_array_equal(arrays.read_rows(run.codes), _local_codes(pods.folder, settings))


@pytest.mark.skipif(
    "resume" not in TrainConfig.__dataclass_fields__, reason="runs cannot be resumed yet"
)
def test_a_killed_job_is_replaced_and_resumes(pods):
    started = pods.started
    pods.start("scheduler", "srch-dist-scheduler")
    for host in ("worker-1", "worker-2"):
        pods.start("worker", host)
    pods.start("train", "train")
    run = RunDirectory(pods.volumes["work"] / "runs" / "first")
    started.await_true(lambda: _iterations(run) >= 2, "iteration")
    started.kill("train", signal.SIGKILL)
    assert started.wait("train") == -signal.SIGKILL
    before = run.history()
    pods.start("train", "train")
    assert started.wait("train") == 0, started.text("train")
    assert run.history()[: len(before) - 1] == before[:-1]
    settings = yaml.safe_load((pods.volumes["run"] / "run.yaml").read_text())
    settings.pop("resume")
    np.testing.assert_array_equal(arrays.read_rows(run.codes), _local_codes(pods.folder, settings))
