"""Who holds a lock, and whether that process is alive."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

BEAT_SECONDS = 5.0


LEASE_SECONDS = 30.0


LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: host, its boot, process and the process's start, and a token of its own."""

    host: str
    boot: str
    pid: int
    started: str
    token: str
    beat: int

    def is_here(self) -> bool:
        """Whether the holder's process would be one of this machine's."""
        return (self.host, self.boot) == (socket.gethostname(), _boot())

    def is_alive(self) -> bool:
        """Whether the process that this machine has under that number is the holder's."""
        return self.started != "" and self.started == _process_start(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @classmethod
    def here(cls) -> Holder:
        """The process that asks."""
        boot, pid = _boot(), os.getpid()
        return cls(socket.gethostname(), boot, pid, _process_start(pid), uuid.uuid4().hex, 0)

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Who stands in a lock; None where nobody does, as when its writing was cut off."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def dump(self, beat: int) -> bytes:
        """What stands in a lock at a beat."""
        return json.dumps({**self.__dict__, "beat": beat}).encode() + b"\n"


def _boot() -> str:
    """What tells one boot of a machine, or one container host, from the next; Linux alone says."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    """When a process started, as the kernel counts it; a number is used again, this is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field, a name in parentheses, may hold anything.
    return stat.rsplit(")", 1)[1].split()[19]
