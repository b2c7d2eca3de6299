"""Encrypted clusters accept only clients with a certificate of their authority."""

from __future__ import annotations

import time
from pathlib import Path

import distributed
import pytest

from pipelines.faults.cluster import separate_cluster
from srch_dist import certificates
from srch_dist.certificates import make_certificates
from srch_dist.config.loading import build_config
from srch_dist.config.options import TlsConfig
from srch_dist.errors import ClusterError, ConfigError, StorageError
from srch_dist.runtime.cluster import Tls, connect, tls_files
from srch_dist.train.runner import train_model
from tests.helpers.faults import OPTIONS


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


def test_local_cluster_speaks_tls_where_it_is_asked_to(authority):
    with connect(workers=1, tls=files(authority)):
        client = distributed.default_client()
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result() == 3


def test_local_cluster_listens_on_loopback_alone():
    with connect(workers=1):
        client = distributed.default_client()
        found = client.scheduler_info(n_workers=-1)
        addresses = [found["address"], *found["workers"]]
        addresses += [worker["nanny"] for worker in found["workers"].values()]
        listeners = client.run(_listeners)
    assert all("://127.0.0.1:" in address for address in addresses)
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
    with pytest.raises(StorageError, match="in use; name another folder"):
        make_certificates(tmp_path / "a")


def test_certificates_belong_together_and_are_files(tmp_path):
    with pytest.raises(ConfigError, match=r"tls\.ca, tls\.cert and tls\.key belong together"):
        tls_files(TlsConfig(ca="a"))
    refused = pytest.raises(ConfigError, match=r"tls\.ca is .*ca\.pem, which is not a file")
    with refused, connect(workers=1, tls=files(tmp_path)):
        pass
