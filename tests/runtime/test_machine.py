"""CPUs and memory that a process may use, in cgroups of both versions, and clusters that fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srch_dist.errors import ConfigError
from srch_dist.runtime import machine
from srch_dist.runtime.machine import (
    CLIENT_BYTES,
    LocalSize,
    check_local_size,
    cpu_count,
    local_size,
    memory_bytes,
)

GIB, MIB = 1 << 30, 1 << 20
NO_LIMIT = str((1 << 63) - 4096)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def version_2(root: Path, path: str, mounted: str, **files: str) -> Path:
    names = {f"sys/fs/cgroup/{name.replace('__', '/')}": text for name, text in files.items()}
    line = f"30 23 0:26 {mounted} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
    return write(root, {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": line, **names})


def version_1(root: Path, path: str, mounted: str, files: dict[str, str]) -> Path:
    lines = [
        f"32 31 0:29 {mounted} /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory",
        f"33 31 0:30 {mounted} /sys/fs/cgroup/cpu rw shared:8 - cgroup cgroup rw,cpu,cpuacct",
        "34 31 0:31 / /proc rw - proc proc rw",
    ]
    own = f"4:memory:{path}\n2:cpu,cpuacct:{path}\n0::/\n"
    return write(
        root,
        {
            "proc/self/cgroup": own,
            "proc/self/mountinfo": "\n".join(lines),
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )


def test_without_cgroups_memory_is_that_of_the_machine(tmp_path):
    assert memory_bytes(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert cpu_count(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("name", ["a/b", "a"])
def test_version_2_limits_of_the_own_group_and_of_those_above(tmp_path, name):
    files = {f"{name}/memory.max".replace("/", "__"): "440401920\n", "memory.max": "max\n"}
    root = version_2(tmp_path, "/a/b", "/", **files, **{f"{name}/cpu.max": "50000 100000\n"})
    assert memory_bytes(root) == 420 * MIB
    assert cpu_count(root) == 1


def test_version_2_without_a_limit(tmp_path):
    root = version_2(tmp_path, "/a", "/")
    write(root, {"sys/fs/cgroup/a/memory.max": "max", "sys/fs/cgroup/a/cpu.max": "max 100000"})
    assert memory_bytes(root) == memory_bytes(tmp_path / "none")
    assert cpu_count(root) == cpu_count(tmp_path / "none")


@pytest.mark.parametrize("mounted", ["/", "/docker/1"])
def test_version_1(tmp_path, mounted):
    """A container without a cgroup namespace is told its path on the host."""
    place = "docker/1/" if mounted == "/" else ""
    files = {
        f"memory/{place}memory.limit_in_bytes": str(420 * MIB),
        "memory/memory.limit_in_bytes" if place else "memory/other": NO_LIMIT,
        f"cpu/{place}cpu.cfs_quota_us": "100000",
        f"cpu/{place}cpu.cfs_period_us": "100000",
    }
    root = version_1(tmp_path, "/docker/1", mounted, files)
    assert memory_bytes(root) == 420 * MIB
    assert cpu_count(root) == 1


def test_version_1_without_a_limit(tmp_path):
    files = {"memory/memory.limit_in_bytes": NO_LIMIT, "cpu/cpu.cfs_quota_us": "-1"}
    root = version_1(tmp_path, "/", "/", {**files, "cpu/cpu.cfs_period_us": "100000"})
    assert memory_bytes(root) == memory_bytes(tmp_path / "none")
    assert cpu_count(root) == cpu_count(tmp_path / "none")


def test_a_path_that_is_not_seen_here_counts_as_the_mounted_group(tmp_path):
    root = version_2(tmp_path, "/../other", "/", **{"memory.max": str(GIB)})
    assert memory_bytes(root) == GIB


@pytest.fixture
def has(monkeypatch):
    """Set the memory and the CPUs of the machine."""

    def set_both(memory: int, cpus: int) -> None:
        monkeypatch.setattr(machine, "memory_bytes", lambda: memory)
        monkeypatch.setattr(machine, "cpu_count", lambda: cpus)

    return set_both


def test_default_size_fits_the_machine(has):
    has(24 * GIB, 2)
    assert local_size(None, None) == LocalSize(2, 2 * GIB)
    has(3 * GIB, 2)
    assert local_size(None, None) == LocalSize(2, (3 * GIB - CLIENT_BYTES) // 2)
    has(GIB, 2)
    assert local_size(None, None) == LocalSize(1, GIB - CLIENT_BYTES)
    has(8 * GIB, 64)
    size = local_size(None, None)
    assert size.workers == (8 * GIB - CLIENT_BYTES) // (512 * MIB)
    check_local_size(size)


def test_what_the_caller_asks_for_is_kept(has):
    has(24 * GIB, 8)
    assert local_size(3, "1GiB") == LocalSize(3, GIB)
    assert local_size(None, "300MiB") == LocalSize(8, 300 * MIB)
    with pytest.raises(ConfigError, match="workers is 0, expected 1 to"):
        local_size(0, None)


def test_more_than_the_machine_has_is_refused_with_the_numbers(has):
    has(24 * GIB, 2)
    with pytest.raises(ConfigError) as caught:
        check_local_size(local_size(None, "100GiB"))
    text = str(caught.value)
    assert "2 workers with a memory_limit of 102,400 MiB each" in text
    assert "need 205,056 MiB. This machine, or the cgroup of this process, has 24,576 MiB" in text
    assert text.endswith("Lower --memory-limit to 12160MiB or less")
    with pytest.raises(ConfigError, match=r", or lower --workers to 2$"):
        check_local_size(local_size(4, "8GiB"))
    check_local_size(local_size(2, "12160MiB"))


@pytest.mark.parametrize(("workers", "limit"), [(2, "2GiB"), (None, None), (1, None)])
def test_a_small_cgroup_is_refused(has, workers, limit):
    has(420 * MIB, 2)
    with pytest.raises(ConfigError, match=r"has 420 MiB\. Use a machine or a cgroup with more"):
        check_local_size(local_size(workers, limit))


def test_affinity_is_followed():
    code = "from srch_dist.runtime.machine import cpu_count; print(cpu_count())"
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{one}]); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
