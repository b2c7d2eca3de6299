"""CPUs and memory that this process may use, and the size of a local cluster that fits in them.

A process has the limits of its own control group (cgroup) and of every cgroup above that group.
Dask reads the limits of only one of these groups; this module reads the limits of all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask.system
import dask.utils

from srch_dist.config.options import MOST
from srch_dist.errors import ConfigError

_MIB = 1 << 20
# Default memory of a worker: the first where the machine has enough for all workers, and never less
# than the second, most of which its imports need.
_USUAL_BYTES = 2 << 30
_LEAST_BYTES = 512 * _MIB
# This process with the scheduler. It has 145 MiB when training starts (Linux, Python 3.11).
CLIENT_BYTES = 256 * _MIB


@dataclass(frozen=True)
class LocalSize:
    """Size of a local cluster.

    Attributes
    ----------
    workers : number of worker processes.
    memory_limit : memory limit of each worker, in bytes.
    """

    workers: int
    memory_limit: int


def parse_bytes(text: str, option: str = "memory_limit", least: int = 1) -> int:
    """Convert a size such as "2GiB" to bytes; raise ConfigError for any other text.

    ``option`` is the name of the option, for the message. The size is at least ``least``.
    """
    try:
        size = int(dask.utils.parse_bytes(text))
    except ValueError:
        size = -1
    if size < least or not text.strip()[:1].isdigit():
        raise ConfigError(f"{option} is {text!r}; write for example 2GiB")
    return size


def local_size(workers: int | None, memory_limit: str | None) -> LocalSize:
    """Choose the size of a local cluster: the given values, else values that fit this machine.

    Parameters
    ----------
    workers : number of workers. Default: one per CPU that this process may use. If ``memory_limit``
        is None too, the default is at most one worker per 512 MiB of the memory that this process
        does not need.
    memory_limit : memory limit of each worker, such as "2GiB". Default: the memory that this
        process does not need, split equally, but at least 512 MiB and at most 2 GiB.

    Raises
    ------
    ConfigError : a value is invalid.
    """
    if workers is not None and not 1 <= workers <= MOST:
        raise ConfigError(f"workers is {workers}, expected 1 to {MOST}")
    if memory_limit is not None:
        return LocalSize(workers or cpu_count(), parse_bytes(memory_limit))
    left = memory_bytes() - CLIENT_BYTES
    count = workers or max(1, min(cpu_count(), left // _LEAST_BYTES))
    return LocalSize(count, max(min(_USUAL_BYTES, left // count), _LEAST_BYTES))


def check_local_size(size: LocalSize) -> None:
    """Raise ConfigError if the workers and this process need more memory than `memory_bytes`."""
    total = memory_bytes()
    needed = size.workers * size.memory_limit + CLIENT_BYTES
    if needed <= total:
        return
    most = (total - CLIENT_BYTES) // size.workers // _MIB
    fewer = (total - CLIENT_BYTES) // size.memory_limit
    remedies = []
    if most >= _LEAST_BYTES // _MIB:
        remedies.append(f"lower --memory-limit to {most}MiB or less")
    if fewer >= 1:
        remedies.append(f"lower --workers to {fewer}")
    if not remedies:
        remedies.append("use a machine or a cgroup with more memory")
    text = ", or ".join(remedies)
    raise ConfigError(
        f"{size.workers} workers with a memory_limit of {_mib(size.memory_limit)} each, and "
        f"{_mib(CLIENT_BYTES)} for this process, need {_mib(needed)}. This machine, or the cgroup "
        f"of this process, has {_mib(total)}. {text[0].upper()}{text[1:]}"
    )


def cpu_count(root: Path = Path("/")) -> int:
    """Count the CPUs that this process may use, by its affinity and its cgroups' CPU quotas.

    A quota of 1.5 CPUs counts as 2. ``root`` is the folder of ``proc`` and ``sys``.
    """
    quotas = [math.ceil(quota) for quota in _cpu_quotas(root)]
    return max(1, min([dask.system.cpu_count(), *quotas]))


def memory_bytes(root: Path = Path("/")) -> int:
    """Return the number of bytes of memory that machine and cgroups allow this process to use.

    ``root`` is the folder of ``proc`` and ``sys``.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_memory_limits(root)])


def _memory_limits(root: Path) -> Iterator[int]:
    # Version 1 writes 2**63 rounded down to a page for no limit, which is above every machine's.
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (text := _read(group / name)).isdigit():
                yield int(text)


def _cpu_quotas(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        pairs = [
            _read(group / "cpu.max").split(),
            [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")],
        ]
        for pair in pairs:
            # No quota is "max" in version 2, and -1 in version 1.
            if len(pair) == 2 and all(part.isdigit() and int(part) for part in pair):
                yield int(pair[0]) / int(pair[1])


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and of every cgroup above it (versions 1 and 2).

    ``controller`` is ``cpu`` or ``memory``; in version 1 each has its own tree of cgroups.
    """
    own = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            own[name] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, *_, options = after.split()
        if kind == "cgroup2":
            path = own.get("", "")
        elif kind == "cgroup" and controller in options.split(","):
            path = own.get(controller, "")
        else:
            continue
        mounted, place = before.split()[3:5]
        if path:
            yield from _upwards(root / place.lstrip("/"), mounted, path)


def _upwards(place: Path, mounted: str, path: str) -> Iterator[Path]:
    """Yield the folder of the cgroup ``path`` and of each cgroup above it, up to the mount.

    The file system mounted at ``place`` shows the cgroup ``mounted`` and all cgroups below it.
    """
    own = Path(path)
    # In a container, the path can be one of the host that is not seen here.
    inner = own.relative_to(mounted) if own.is_relative_to(mounted) else Path()
    group = place / inner
    while group != place:
        yield group
        group = group.parent
    yield place


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB"
