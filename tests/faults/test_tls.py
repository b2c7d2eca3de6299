"""Encrypted clusters accept only clients with a certificate of their authority."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import dask
import distributed
import pytest

from pipelines.faults.cluster import separate_cluster
from srch_dist import certificates
from srch_dist.certificates import make_certificates
from srch_dist.config.loading import build_config
from srch_dist.config.options import TlsConfig
from srch_dist.errors import ClusterError, ConfigError, StorageError
from srch_dist.runtime.cluster import connect
from srch_dist.runtime.local_cluster import DASHBOARD
from srch_dist.runtime.progress import silent
from srch_dist.runtime.tls import Tls, tls_files
from srch_dist.train.runner import train_model
from tests.helpers.faults import LIMIT, OPTIONS


def files(folder, role="client") -> Tls:
    return Tls(*(str(folder / name) for name in ("ca.pem", f"{role}.pem", f"{role}-key.pem")))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, authority):
    """A cluster that accepts TLS connections only."""
    own = files(authority, "worker")
    options = ["--tls-ca-file", own.ca, "--tls-cert", own.cert, "--tls-key", own.key]
    with separate_cluster(tmp_path_factory.mktemp("tls-cluster"), 1, options) as processes:
        yield processes


@pytest.mark.fault("TLS cluster, certificate of its authority", "survived")
def test_training_over_tls(store, clean, encrypted, authority, tmp_path):
    own = files(authority)
    values = {
        **{"data": store.path, "out": str(tmp_path / "run"), "bits": 16, "graph": {"k": 5}},
        **{**OPTIONS, "scheduler": encrypted.address},
        "tls": {"ca": own.ca, "cert": own.cert, "key": own.key},
    }
    train_model(build_config(values))
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("TLS cluster: foreign authority, no certificate, no TLS", "refused")
@pytest.mark.parametrize("kind", ["foreign", "none", "plain"])
def test_strangers_are_refused_in_one_line(encrypted, tmp_path, kind):
    address, tls = encrypted.address, None
    if kind == "foreign":
        tls = files(make_certificates(tmp_path / "foreign"))
    if kind == "plain":
        address = address.replace("tls://", "tcp://")
    start = time.monotonic()
    refused = pytest.raises(ClusterError, match="no Dask scheduler answers at")
    with refused as end, connect(address, tls=tls):
        pass
    assert time.monotonic() - start < 60
    assert "\n" not in str(end.value)


# Asks a Dask server for its identity, as root's processes do not: without rights.
_STRANGER = """
import asyncio, os, sys
import distributed
from distributed.core import connect

kind, *addresses = sys.argv[1:]
own = {"its own certificate": distributed.Security.temporary}.get(kind, distributed.Security)()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)

async def ask(address):
    if kind == "no TLS":
        address = address.replace("tls://", "tcp://")
    comm = await connect(address, timeout=3, **own.get_connection_args("client"))
    await comm.write({"op": "identity", "reply": True})
    return await asyncio.wait_for(comm.read(), 3)

for address in addresses:
    try:
        print("answered:", asyncio.run(ask(address)))
    except Exception as error:
        print("refused:", type(error).__name__, str(error).splitlines()[:1])
"""


@pytest.fixture(scope="module")
def private():
    """The client of a local cluster that is started without options."""
    with connect(workers=1):
        yield distributed.default_client()


def _addresses(client: distributed.Client) -> list[str]:
    """Addresses of the scheduler, the workers and their nannies."""
    found = client.scheduler_info(n_workers=-1)
    nannies = [worker["nanny"] for worker in found["workers"].values()]
    return [found["address"], *found["workers"], *nannies]


@pytest.mark.cluster
@pytest.mark.fault("local cluster: a process of another user, without its certificate", "refused")
@pytest.mark.parametrize("kind", ["no TLS", "no certificate", "its own certificate"])
def test_strangers_cannot_reach_a_local_cluster(private, tmp_path, kind):
    addresses = _addresses(private)
    assert len(addresses) == 3
    done = subprocess.run(
        [sys.executable, "-c", _STRANGER, kind, *addresses],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(line.startswith("refused: ") for line in lines), done.stdout
    assert private.submit(sum, [1, 2]).result() == 3


@pytest.mark.cluster
def test_one_time_certificate_is_in_memory_alone(private):
    assert all(address.startswith("tls://127.0.0.1:") for address in _addresses(private))
    key = private.security.tls_client_key
    assert "PRIVATE KEY" in key
    (process,) = private.run(os.getpid).values()
    for place in ("environ", "cmdline"):
        assert b"PRIVATE KEY" not in Path(f"/proc/{process}/{place}").read_bytes()
    with connect(workers=1):
        assert distributed.default_client().security.tls_client_key != key


def _pages(client: distributed.Client) -> list[int]:
    """HTTP status of pages of Dask's scheduler and workers."""
    found = client.scheduler_info(n_workers=-1)
    services = [found["services"], *(worker["services"] for worker in found["workers"].values())]
    status = []
    for port in (one["dashboard"] for one in services):
        for page in ("status", "metrics", "health", "json/counts.json", "info/main/workers.html"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}") as answer:
                    status.append(answer.status)
            except urllib.error.HTTPError as error:
                status.append(error.code)
    return status


@pytest.mark.cluster
def test_local_cluster_serves_pages_only_if_it_is_asked_to(private, monkeypatch):
    assert set(_pages(private)) == {404}
    notes: list[str] = []
    shown = silent()
    monkeypatch.setattr(shown, "note", notes.append)
    with dask.config.set({DASHBOARD: True}), connect(workers=1, progress=shown):
        assert 200 in _pages(distributed.default_client())
    assert notes[0].startswith("cluster: 1 workers of 2.0 GiB, dashboard http://127.0.0.1:")


@pytest.mark.cluster
def test_local_cluster_speaks_tls_where_it_is_asked_to(authority):
    with connect(workers=1, tls=files(authority)):
        client = distributed.default_client()
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.cluster
def test_local_cluster_listens_on_loopback_alone(private):
    assert all("://127.0.0.1:" in address for address in _addresses(private))
    listeners = private.run(_listeners)
    assert all(host == "0100007F" for some in listeners.values() for host in some)


def _listeners() -> set[str]:
    """Addresses on which this process listens, in the kernel's notation."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    sockets = {str(link.readlink()) for link in links}
    own = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            own.add(fields[1].split(":")[0])
    return own


def test_keys_are_for_their_owner_alone(authority):
    for path in authority.iterdir():
        expected = 0o600 if path.stem.endswith("-key") else 0o644
        assert path.stat().st_mode & 0o777 == expected, path
    assert not (authority / "ca-key.pem").exists()


def test_command_prints_what_to_give_to_whom(tmp_path, capsys):
    certificates.main([str(tmp_path / "a")])
    lines = capsys.readouterr().out.splitlines()
    topics = [line.split(":")[0] for line in lines]
    assert topics == ["scheduler", "worker", "client", "options of srch_dist"]
    with pytest.raises(StorageError, match=r"not empty\. Choose a new or an empty folder"):
        make_certificates(tmp_path / "a")


def test_certificates_belong_together_and_are_files(tmp_path):
    with pytest.raises(ConfigError, match=r"tls\.ca, tls\.cert and tls\.key belong together"):
        tls_files(TlsConfig(ca="a"))
    refused = pytest.raises(ConfigError, match=r"tls\.ca is .*ca\.pem, which is not a file")
    with refused, connect(workers=1, tls=files(tmp_path)):
        pass
