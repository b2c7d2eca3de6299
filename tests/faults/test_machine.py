"""Local clusters larger than the machine, or the cgroup, are refused before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.faults import LIMIT, message, options


def command(name: str, *arguments: str, folder: Path, prefix=()) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*prefix, sys.executable, "-m", f"srch_dist.{name}", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.fault("workers with more memory than the machine has", "refused")
def test_memory_limit_beyond_the_machine(store, tmp_path):
    more = ["--workers", "2", "--memory-limit", "100TiB"]
    done = command("train", *options(store, tmp_path / "run"), *more, folder=tmp_path)
    assert done.returncode == 2
    assert "error: 2 workers with a memory_limit of 104,857,600 MiB each" in message(done)
    assert not (tmp_path / "run").exists()
    assert "cluster: " not in done.stderr


@pytest.fixture
def small_cgroup():
    """Arguments that start a command in a cgroup of 420 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    group = parent / f"srch-dist-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(420 << 20))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"cannot make a cgroup with a memory limit: {error}")
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


@pytest.mark.root
@pytest.mark.fault("two workers of 2 GiB in a cgroup of 420 MiB", "refused")
@pytest.mark.parametrize("more", [["--workers", "2", "--memory-limit", "2GiB"], []])
def test_small_cgroup(store, tmp_path, small_cgroup, more):
    arguments = [*options(store, tmp_path / "run"), *more]
    done = command("train", *arguments, folder=tmp_path, prefix=small_cgroup)
    assert done.returncode == 2, done.stderr
    assert "or the cgroup of this process, has 420 MiB" in message(done)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
@pytest.mark.fault("one CPU by affinity: as many workers", "survived")
def test_affinity(tmp_path):
    prefix = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    arguments = ["--pairs", "1000", "--dims", "image=20,text=12", "--json"]
    done = command("plan", *arguments, folder=tmp_path, prefix=prefix)
    assert json.loads(done.stdout)["workers"] == 1, done.stderr
