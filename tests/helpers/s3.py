"""An S3 server for tests: moto in a separate process, which checks credentials, behind a proxy."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3

from srch_dist.storage.s3 import ENDPOINTS

BUCKET = "bucket"
_VARIABLES = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", *ENDPOINTS)


@dataclass
class Server:
    """A running server.

    Attributes
    ----------
    backend : str
        URL of moto.
    folder : Path
        Files in it script the proxy; see `s3_front`.
    full, reader : tuple of str
        Access key and secret with all rights, and with read access only.
    port : int
        Port of the proxy.
    front : subprocess.Popen
        Process of the proxy.
    """

    backend: str
    folder: Path
    full: tuple[str, str] = ("", "")
    reader: tuple[str, str] = ("", "")
    port: int = 0
    front: subprocess.Popen | None = field(default=None)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the proxy, on the same port as before."""
        self.front = subprocess.Popen(
            [
                *(sys.executable, Path(__file__).with_name("s3_front.py")),
                *(self.backend.rpartition(":")[2], str(self.port), str(self.folder)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.front.stdout.readline())

    def kill(self) -> None:
        """Kill the proxy with SIGKILL; stored objects remain."""
        self.front.kill()
        self.front.wait()
        self.front.stdout.close()

    def restart_when_dead(self, seconds: float) -> threading.Thread:
        """Restart the proxy ``seconds`` after it has died."""

        def restart():
            self.front.wait(120)
            self.front.stdout.close()
            time.sleep(seconds)
            self.start()

        thread = threading.Thread(target=restart)
        thread.start()
        return thread

    def script(self, name: str, count: int) -> None:
        (self.folder / name).write_text(str(count))

    def answers(self) -> list[str]:
        """Status codes of all responses so far."""
        return [line.split()[-1] for line in (self.folder / "log").read_text().splitlines()]

    def environment(self, keys: tuple[str, str] | None = None) -> dict[str, str]:
        """Variables with which a process reaches the server."""
        key, secret = keys or self.full
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def use(self, patch, keys: tuple[str, str] | None = None, **changes: str) -> None:
        """Set the variables in the test process; ``changes`` override them."""
        for name in _VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in {**self.environment(keys), **changes}.items():
            patch.setenv(name, value)

    def client(self):
        """A boto3 client that bypasses the proxy."""
        return _boto("s3", self.backend, *self.full)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        client = self.client()
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {
            one["Key"]: client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()
            for one in found
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """Start a server with a bucket and two users; stop it at the end of the context."""
    program = Path(sys.executable).with_name("moto_server")
    command = [program, "-H", "127.0.0.1", "-p", "0"]
    moto = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    server = None
    try:
        url = next(m[1] for line in moto.stderr if (m := re.search(r"Running on (http\S+)", line)))
        threading.Thread(target=lambda: [None for _ in moto.stderr], daemon=True).start()
        server = Server(url, folder)
        _boto("s3", url, "root", "root").create_bucket(Bucket=BUCKET)
        server.full = _make_user(url, "full", ["s3:*"])
        server.reader = _make_user(url, "reader", ["s3:Get*", "s3:List*"])
        # From this request on, moto checks keys, signatures and rights.
        reset = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", method="POST")
        reset.add_header("Content-Type", "text/plain")
        urllib.request.urlopen(reset).close()
        server.start()
        yield server
    finally:
        if server is not None and server.front is not None:
            server.kill()
        moto.kill()
        moto.wait()
        moto.stderr.close()


def _make_user(url: str, name: str, actions: list[str]) -> tuple[str, str]:
    client = _boto("iam", url, "root", "root")
    client.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
    key = client.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def _boto(service: str, url: str, key: str, secret: str):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


DATA = f"s3://{BUCKET}/pairs.zarr"


def place(name: str) -> str:
    return f"s3://{BUCKET}/{name}"
