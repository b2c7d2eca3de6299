"""The containers that copy from and to an object store, with moto as the S3 server."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from srch_dist.encode.batch import encode_store
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage import arrays, s3
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.s3 import ENDPOINTS
from tests.helpers.manifests import build, process
from tests.helpers.runs import make_pairs, train_here

pytestmark = pytest.mark.cluster

KEYS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something"}
# The file in the secret srch-dist-s3.
CREDENTIALS = "[default]\naws_access_key_id = someone\naws_secret_access_key = something\n"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def bucket(endpoint):
    store = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="someone",
        aws_secret_access_key="something",
    )
    created = store.Bucket("my-bucket")
    created.create(CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return created


def run(name: str, volume: Path, endpoint: str) -> subprocess.CompletedProcess:
    """Run a container of the production overlay, with the folder ``volume`` as its volume.

    Credentials are in the mounted file alone.
    """
    container = process(build("overlays/production"), name, "pod-1")
    path = Path(container.env["AWS_SHARED_CREDENTIALS_FILE"])
    assert container.mounts[str(path.parent)] == "credentials"
    volume.mkdir(exist_ok=True)
    secret = volume.with_name(f"{volume.name}-secret")
    secret.write_text(CREDENTIALS)
    without = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    settings = {"S3_ENDPOINT_URL": endpoint, "AWS_SHARED_CREDENTIALS_FILE": str(secret)}
    args = [argument.replace("/srv/work", str(volume)) for argument in container.args]
    assert args != container.args
    return subprocess.run(
        [Path(sys.executable).with_name(args[0]), *args[1:]],
        env={**without, **container.env, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_features_are_downloaded_completely_and_only_once(tmp_path, bucket, endpoint):
    with resources.as_file(resources.files("srch_dist.ingest") / "data" / "emoji.npz") as source:
        store = ingest_source(source, tmp_path / "features.zarr")
    for path in Path(store.path).rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), f"features.zarr/{path.relative_to(store.path)}")
    done = run("fetch", tmp_path / "volume", endpoint)
    assert done.returncode == 0, done.stderr
    fetched = open_store(tmp_path / "volume" / "features.zarr")
    assert fetched.checksums == store.checksums
    for name in store.modalities:
        np.testing.assert_array_equal(fetched.read(name), store.read(name))
    # A replacement pod downloads nothing.
    assert run("fetch", tmp_path / "volume", endpoint).stdout == ""


def test_the_program_reads_the_bucket_with_the_same_settings(
    tmp_path, bucket, endpoint, monkeypatch
):
    """The variables of the copying containers are enough for srch_dist to read the bucket."""
    with resources.as_file(resources.files("srch_dist.ingest") / "data" / "emoji.npz") as source:
        store = ingest_source(source, tmp_path / "features.zarr")
    env = process(build("overlays/s3-without-tls"), "fetch", "pod-1").env
    assert env["DATA_URL"].startswith(f"s3://{bucket.name}/")
    assert env["RUN_URL"].startswith(f"s3://{bucket.name}/")
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "secret").write_text(CREDENTIALS)
    settings = {
        "S3_ENDPOINT_URL": endpoint,
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "secret"),
    }
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**env, **settings}.items():
        monkeypatch.setenv(name, value)
    with resources.as_file(resources.files("srch_dist.ingest") / "data" / "emoji.npz") as source:
        written = ingest_source(source, f"s3://{bucket.name}/direct.zarr")
    assert written.checksums == store.checksums
    # An empty endpoint means Amazon S3.
    monkeypatch.setenv("S3_ENDPOINT_URL", "")
    assert s3.endpoint() is None


def test_codes_are_uploaded_and_checkpoints_are_not(tmp_path, bucket, endpoint):
    folder = tmp_path / "runs" / "first"
    for name in ("codes.zarr/c/0/0", "codes.zarr/zarr.json", "model.npz", "checkpoints/0007/z/c/0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    done = run("upload", tmp_path, endpoint)
    assert done.returncode == 0, done.stderr
    stored = {o.key: o.get()["Body"].read().decode() for o in bucket.objects.filter(Prefix="runs/")}
    expected = ["codes.zarr/c/0/0", "codes.zarr/zarr.json", "model.npz"]
    assert stored == {f"runs/first/{name}": name for name in expected}


def test_all_rows_can_be_encoded_with_the_model_that_the_job_uploaded(
    tmp_path, bucket, endpoint, monkeypatch
):
    """The encode command of deploy/README.md: model and features from the bucket, codes to it."""
    for name, value in {**KEYS, "AWS_REGION": "eu-central-1", "S3_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    features = f"s3://{bucket.name}/paired.zarr"
    np.savez(tmp_path / "pairs.npz", **make_pairs())
    ingest_source(tmp_path / "pairs.npz", features)
    trained = train_here(features, tmp_path / "runs" / "first", evaluate=False)
    bucket.objects.filter(Prefix="runs/").delete()
    done = run("upload", tmp_path, endpoint)
    assert done.returncode == 0, done.stderr
    remote = encode_store(
        f"s3://{bucket.name}/runs/first", features, "image", f"s3://{bucket.name}/codes.zarr"
    )
    local = encode_store(trained.run.path, features, "image", tmp_path / "codes.zarr")
    assert str(remote) == f"s3://{bucket.name}/codes.zarr"
    np.testing.assert_array_equal(arrays.read_rows(remote), arrays.read_rows(local))


def test_a_failed_copy_fails_the_container(tmp_path, bucket, endpoint):
    (tmp_path / "runs").mkdir()
    assert run("upload", tmp_path, endpoint).returncode != 0
    bucket.objects.filter(Prefix="features.zarr/").delete()
    assert run("fetch", tmp_path, endpoint).returncode != 0
