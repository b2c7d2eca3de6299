"""Simulate several hosts on one machine: one network namespace each, and one for their bridge.

Needs Linux and root. Links can be cut and restored, and all processes of a host killed. Hosts can
share the disk of this machine, or have no path in common: the processes of such a host write to a
memory disk of its own, see the rest of this machine read-only, and have a host name of their own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Runs the command "$@" on a host that shares no path with another: host name, folder that is
# writable besides the host's own disk (or "-"), command. The first mounts are the host's own disk.
_ALONE = r"""
set -e
hostname "$1"
mount --make-rprivate /
mount -t tmpfs -o size=2g own /srv
mount -t tmpfs -o size=64m own /dev/shm
[ "$2" = - ] || mount --bind "$2" "$2"
cut -d' ' -f2 /proc/self/mounts | while read -r place; do
  case "$place" in
    /proc*|/sys*|/srv|/dev/shm|/dev/pts|"$2") ;;
    *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;;
  esac
done
shift 2
export TMPDIR=/srv HOME=/srv
cd /srv
exec "$@"
"""


@dataclass(frozen=True)
class Network:
    """Hosts 1 … n with addresses 10.77.0.1 …; see `network`.

    Attributes
    ----------
    name : str
        Prefix of the namespaces.
    alone : bool
        Whether the hosts have no path in common.
    """

    name: str
    alone: bool = False

    def address(self, host: int) -> str:
        """IP address of a host."""
        return f"10.77.0.{host}"

    def start(
        self,
        host: int,
        command: Sequence[str],
        environment: dict[str, str],
        log: str,
        writable: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` on a host, with its output appended to the file ``log``.

        If the hosts have no path in common, all the command can write to is the folder /srv, which
        no other command sees, and the folder ``writable``.
        """
        if self.alone:
            arguments = (_ALONE, "sh", self.host(host), str(writable or "-"))
            command = ["unshare", "--uts", "sh", "-c", *arguments, *command]
        with open(log, "ab") as file:  # noqa: PTH123
            return subprocess.Popen(
                ["ip", "netns", "exec", self.host(host), *command],
                env={**os.environ, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cut(self, host: int) -> None:
        """Cut the link of a host: packets are dropped silently in both directions."""
        _ip("-n", self.host(0), "link", "set", f"v{host}", "down")

    def restore(self, host: int) -> None:
        """Restore the link that `cut` cut."""
        _ip("-n", self.host(0), "link", "set", f"v{host}", "up")

    def kill(self, host: int) -> None:
        """Kill every process on a host."""
        listing = subprocess.run(
            ["ip", "netns", "pids", self.host(host)], capture_output=True, text=True, check=True
        )
        for process in listing.stdout.split():
            try:
                os.kill(int(process), 9)
            except ProcessLookupError:
                continue

    def host(self, host: int) -> str:
        """Name of a host's namespace; host 0 is the bridge."""
        return f"{self.name}-{host}"


@contextmanager
def network(name: str, hosts: int, alone: bool = False) -> Iterator[Network]:
    """Create a network, and remove it with all its processes at the end.

    Parameters
    ----------
    name : str
        Prefix of the namespaces, unique on the machine.
    hosts : int
        Number of hosts.
    alone : bool
        Whether the hosts have no path in common.

    Raises
    ------
    PermissionError
        This machine does not permit network namespaces.
    """
    created = Network(name, alone)
    try:
        try:
            _ip("netns", "add", created.host(0))
            _ip("-n", created.host(0), "link", "add", "br0", "type", "bridge")
            _ip("-n", created.host(0), "link", "set", "br0", "up")
            for host in range(1, hosts + 1):
                _add(created, host)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise PermissionError(f"cannot create network namespaces: {reason.strip()}") from None
        yield created
    finally:
        for host in range(hosts + 1):
            if os.path.exists(f"/run/netns/{created.host(host)}"):  # noqa: PTH110
                created.kill(host)
                _ip("netns", "del", created.host(host))


def _add(created: Network, host: int) -> None:
    space, bridge, link = created.host(host), created.host(0), f"v{host}"
    _ip("netns", "add", space)
    _ip("-n", bridge, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
    _ip("-n", bridge, "link", "set", link, "master", "br0", "up")
    _ip("-n", space, "addr", "add", f"{created.address(host)}/24", "dev", "eth0")
    _ip("-n", space, "link", "set", "eth0", "up")
    _ip("-n", space, "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
