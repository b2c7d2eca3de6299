"""Hosts of a network on one machine: a namespace each, and one for the bridge between them.

For this it takes Linux and root. Links can be cut and restored, and a host be killed with all that
runs on it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """Hosts 1 … n, with addresses 10.77.0.1 …; see `network`."""

    name: str

    def address(self, host: int) -> str:
        """A host's address."""
        return f"10.77.0.{host}"

    def start(
        self, host: int, command: Sequence[str], environment: dict[str, str], log: str
    ) -> subprocess.Popen[bytes]:
        """Start a process on a host."""
        with open(log, "ab") as file:  # noqa: PTH123
            return subprocess.Popen(
                ["ip", "netns", "exec", self.host(host), *command],
                env={**os.environ, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cut(self, host: int) -> None:
        """Drop everything that goes to or comes from a host, without a word to either side."""
        _ip("-n", self.host(0), "link", "set", f"v{host}", "down")

    def restore(self, host: int) -> None:
        """Take back `cut`."""
        _ip("-n", self.host(0), "link", "set", f"v{host}", "up")

    def kill(self, host: int) -> None:
        """Kill everything that runs on a host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.host(host)], capture_output=True, text=True, check=True
        )
        for process in found.stdout.split():
            try:
                os.kill(int(process), 9)
            except ProcessLookupError:
                continue

    def host(self, host: int) -> str:
        """The namespace of a host; that of the bridge is 0."""
        return f"{self.name}-{host}"


@contextmanager
def network(name: str, hosts: int) -> Iterator[Network]:
    """A network of ``hosts``; ``name`` tells it from others.

    Raises
    ------
    PermissionError : namespaces may not be made here.
    """
    made = Network(name)
    try:
        try:
            _ip("netns", "add", made.host(0))
            _ip("-n", made.host(0), "link", "add", "br0", "type", "bridge")
            _ip("-n", made.host(0), "link", "set", "br0", "up")
            for host in range(1, hosts + 1):
                _add(made, host)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise PermissionError(f"no network namespaces here: {said.strip()}") from None
        yield made
    finally:
        for host in range(hosts + 1):
            if os.path.exists(f"/run/netns/{made.host(host)}"):  # noqa: PTH110
                made.kill(host)
                _ip("netns", "del", made.host(host))


def _add(made: Network, host: int) -> None:
    own, bridge, link = made.host(host), made.host(0), f"v{host}"
    _ip("netns", "add", own)
    _ip("-n", bridge, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", own)
    _ip("-n", bridge, "link", "set", link, "master", "br0", "up")
    _ip("-n", own, "addr", "add", f"{made.address(host)}/24", "dev", "eth0")
    _ip("-n", own, "link", "set", "eth0", "up")
    _ip("-n", own, "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
