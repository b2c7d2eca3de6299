"""The overlay `object-store`: no volume is shared, and its containers run on a bucket alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

from srch_dist.cli.command import parse_training
from srch_dist.encode.batch import encode_store
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.runtime.machine import parse_bytes
from srch_dist.storage import arrays
from tests.helpers.manifests import KUBERNETES, build, containers, kustomize, one, process
from tests.helpers.manifests import parse_quantity as bytes_of
from tests.helpers.runs import make_pairs, train_here
from tests.helpers.s3 import s3_server

pytestmark = pytest.mark.slow

FOLDER = "overlays/object-store"
JOBS = ("train", "encode-image", "encode-text", "evaluate")


def job(name: str) -> dict:
    return one(build(FOLDER), "Job", f"srch-dist-{name}")["spec"]


def settings() -> dict[str, str]:
    return one(build(FOLDER), "ConfigMap", "srch-dist-store")["data"]


def test_no_volume_is_shared():
    for document in build(FOLDER):
        assert document["kind"] != "PersistentVolumeClaim"
        for pod, _ in containers(document):
            kinds = {key for volume in pod["volumes"] for key in volume} - {"name"}
            assert kinds <= {"emptyDir", "secret", "configMap"}


@pytest.mark.parametrize("name", [*JOBS, "worker"])
def test_every_process_that_reads_the_store_has_its_settings_and_credentials(name):
    found = process(build(FOLDER), name, "pod-1")
    assert settings().items() <= found.env.items()
    folder, _, _ = found.env["AWS_SHARED_CREDENTIALS_FILE"].rpartition("/")
    assert found.mounts[folder] == "credentials"
    assert found.env["DASK_SCHEDULER_ADDRESS"].startswith("tls://")
    assert "tls" in found.mounts.values()


def test_run_bucket_and_image_are_set_in_one_place_each(tmp_path):
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    path = tmp_path / "kubernetes" / FOLDER / "kustomization.yaml"
    text = path.read_text()
    assert text.count("=my-bucket") == text.count("RUN=first") == 1
    path.write_text(text.replace("=my-bucket", "=other-bucket").replace("RUN=first", "RUN=second"))
    built = kustomize(path.parent).stdout
    assert "my-bucket" not in built
    assert "first" not in built.replace("runs/first", "")  # run.yaml, whose paths are replaced
    documents = list(yaml.safe_load_all(built))
    for name in JOBS:
        found = one(documents, "Job", f"srch-dist-{name}")
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert labels["srch-dist/run"] == found["metadata"]["labels"]["srch-dist/run"] == "second"
        assert "s3://other-bucket/runs/second" in process(documents, name, "pod-1").args


def test_jobs_after_the_run_wait_until_somebody_resumes_them():
    assert [job(name).get("suspend", False) for name in JOBS] == [False, True, True, True]


def test_cache_of_a_worker_is_smaller_than_its_scratch():
    worker = process(build(FOLDER), "worker", "pod-1")
    (volume,) = [v for v in worker.pod["volumes"] if v["name"] == "scratch"]
    assert parse_bytes(settings()["SCRATCH"]) < bytes_of(volume["emptyDir"]["sizeLimit"])
    assert "/srv/scratch" in worker.args
    limits = worker.container["resources"]["limits"]
    emptied = [v["emptyDir"]["sizeLimit"] for v in worker.pod["volumes"] if "emptyDir" in v]
    assert sum(map(bytes_of, emptied)) < bytes_of(limits["ephemeral-storage"])


def test_workers_spread_over_nodes_and_give_way():
    documents = build(FOLDER)
    for name in ("scheduler", *JOBS):
        pod = process(documents, name, "pod-1").pod
        assert pod["priorityClassName"] == "srch-dist-coordinator"
    worker = process(documents, "worker", "pod-1").pod
    assert worker["priorityClassName"] == "srch-dist-worker"
    (spread,) = worker["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    classes = {d["metadata"]["name"]: d for d in documents if d["kind"] == "PriorityClass"}
    assert classes["srch-dist-worker"]["preemptionPolicy"] == "Never"
    assert classes["srch-dist-coordinator"]["value"] > classes["srch-dist-worker"]["value"]


def test_monitoring_component_reads_the_ports_of_the_dashboards(tmp_path):
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    path = tmp_path / "kubernetes" / FOLDER / "kustomization.yaml"
    path.write_text(f"{path.read_text()}  - ../../components/monitoring\n")
    documents = list(yaml.safe_load_all(kustomize(path.parent).stdout))
    monitor = one(documents, "PodMonitor", "srch-dist")["spec"]
    policy = one(documents, "NetworkPolicy", "srch-dist-monitoring")["spec"]
    assert monitor["selector"] == policy["podSelector"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    opened = set()
    for name in ("scheduler", "worker"):
        ports = process(documents, name, "pod-1").container["ports"]
        opened |= {p["containerPort"] for p in ports if p["name"] == endpoint["port"]}
    (rule,) = policy["ingress"]
    assert {port["port"] for port in rule["ports"]} == opened


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An S3 server with the data of the overlay's settings."""
    with s3_server(tmp_path) as server:
        server.use(monkeypatch)
        server.client().create_bucket(Bucket=settings()["BUCKET"])
        np.savez(tmp_path / "pairs.npz", **make_pairs())
        url = f"s3://{settings()['BUCKET']}/{settings()['FEATURES']}"
        ingest_source(tmp_path / "pairs.npz", url)
        yield server


def run(name: str, folder, server, changes: tuple[str, ...] = ()) -> str:
    """Run a container of a job on this machine, without the cluster; return its output."""
    container = process(build(FOLDER), name, "pod-1")
    args = [arg.replace("/srv/config", str(folder)) for arg in container.args]
    own = {key: value for key, value in os.environ.items() if not key.startswith("DASK_")}
    done = subprocess.run(
        [sys.executable, *args[1:], *changes],
        env={**own, **server.environment(), "OMP_NUM_THREADS": "1"},
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.cluster
def test_containers_train_encode_and_evaluate_on_the_bucket_alone(tmp_path, store):
    work = tmp_path / "host"
    work.mkdir()
    text = one(build(FOLDER), "ConfigMap", "srch-dist-run")["data"]["run.yaml"]
    changes = {"bits": 16, "graph": {"k": 5}, "workers": 1, "baseline": False, "report": False}
    (work / "run.yaml").write_text(yaml.safe_dump({**yaml.safe_load(text), **changes}))
    run("train", work, store)
    run("encode-text", work, store, ("--workers", "1"))
    assert "queries" in run("evaluate", work, store, ("--workers", "1"))
    assert [path.name for path in work.iterdir()] == ["run.yaml"]

    data = f"s3://{settings()['BUCKET']}/{settings()['FEATURES']}"
    local = train_here(data, tmp_path / "local", bits=16, graph={"k": 5}).run
    args = process(build(FOLDER), "train", "pod-1").args[3:]
    out = parse_training([a.replace("/srv/config", str(work)) for a in args]).out
    with pytest.MonkeyPatch.context() as patch:
        store.use(patch)
        found = arrays.read_rows(f"{out}/codes.zarr")
        np.testing.assert_array_equal(found, arrays.read_rows(local.codes))
        own = encode_store(local.path, data, "text", tmp_path / "text.zarr")
        encoded = arrays.read_rows(f"s3://{settings()['BUCKET']}/codes/first/text.zarr")
        np.testing.assert_array_equal(encoded, arrays.read_rows(own))
