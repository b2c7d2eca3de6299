"""Simulated hosts on one machine: network namespaces with their own mounts, removed at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

_NET = "10.77.0"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Hosts:
    """Named hosts in one isolated network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"sd{os.getpid()}"
        self.names: list[str] = []

    def add(self, name: str) -> None:
        """Add a host. Processes that start later resolve its name."""
        number = len(self.names) + 1
        if not self.names:
            _ip("netns", "add", self.mark)
            _ip("-n", self.mark, "link", "add", "br0", "type", "bridge")
            _ip("-n", self.mark, "link", "set", "br0", "up")
        self.names.append(name)
        space, link = f"{self.mark}-{name}", f"v{number}"
        _ip("netns", "add", space)
        peer = ("peer", "name", "eth0", "netns", space)
        _ip("-n", self.mark, "link", "add", link, "type", "veth", *peer)
        _ip("-n", self.mark, "link", "set", link, "master", "br0", "up")
        _ip("-n", space, "addr", "add", f"{_NET}.{number}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", space, "link", "set", device, "up")
        # The route leads nowhere; Dask takes a host's address from its default route.
        _ip("-n", space, "route", "add", "default", "dev", "eth0")

    def prefix(self, name: str, mounts: Mapping[str, Path], writable: Path) -> list[str]:
        """Command prefix that runs a command on a host.

        Parameters
        ----------
        name : str
            Host.
        mounts : mapping
            Folders by their mount point below /srv.
        writable : Path
            Working folder. Everything except it and the mounts is read-only.
        """
        table = self.folder / "hosts"
        lines = [f"{_NET}.{place} {host}" for place, host in enumerate(self.names, 1)]
        table.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
        steps = [
            f"mkdir -p {self.folder}/srv/srv",
            "mount --make-rprivate /",
            f"mount --bind {table} /etc/hosts",
            f"mount --bind {writable} {writable}",
            *(f"mkdir -p {self.folder}/srv{place}" for place in mounts),
            *(f"mount --bind {source} {self.folder}/srv{at}" for at, source in mounts.items()),
            f"mount --rbind {self.folder}/srv/srv /srv",
            "mount -o remount,bind,ro /",
            f"cd {writable}",
            'exec "$@"',
        ]
        script = " && ".join(steps)
        return ["ip", "netns", "exec", f"{self.mark}-{name}", "sh", "-c", script, "sh"]

    def end(self) -> None:
        for space in [*(f"{self.mark}-{name}" for name in self.names), self.mark]:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


@contextmanager
def hosts(folder: Path, *names: str) -> Iterator[Hosts]:
    """Create hosts; skip the test, with the reason, if the machine does not permit it."""
    if shutil.which("ip") is None:
        pytest.skip("the command ip (of iproute2) is not installed")
    made = Hosts(folder)
    try:
        try:
            for name in names:
                made.add(name)
            done = subprocess.run(
                [*made.prefix(names[0], {}, folder), "true"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise OSError(done.stderr.strip())
        except OSError as error:
            pytest.skip(f"network namespaces are not permitted: {error}")
        yield made
    finally:
        made.end()
