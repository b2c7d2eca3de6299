"""Commands on a file system that loses power at a chosen moment; see `pipelines.faults.power`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.faults.moments import arm, disarm, happened
from pipelines.faults.power import PowerDisk, power_disk
from tests.helpers.faults import LIMIT, begin, end

# Workers of local clusters trigger faults too.
_VARIABLES = {"DASK_DISTRIBUTED__WORKER__PRELOAD": '["pipelines.faults.moments"]'}


class PoweredCommands:
    """Commands of srch_dist whose outputs lie on a file system that can lose power.

    Attributes
    ----------
    path : Path
        The file system, for arguments of commands; only commands see it.
    """

    def __init__(self, folder: Path, disk: PowerDisk) -> None:
        self.path = disk.path
        self._folder, self._disk = folder, disk
        self._faults = folder / "armed"

    def run(self, name: str, *arguments: object) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        return end(self._begin(name, *arguments))

    def run_well(self, name: str, *arguments: object) -> None:
        """Run a command to its end and assert exit code 0."""
        done = self.run(name, *arguments)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"

    def cut_at(self, moment: str, call: int, name: str, *arguments: object) -> None:
        """Run a command up to the ``call``-th call of a moment; then the power fails."""
        arm(self._faults, moment, "hold", call)
        process = self._begin(name, *arguments)
        limit = time.monotonic() + LIMIT
        while not happened(self._faults):
            if process.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"{name} did not reach {moment!r}\n{end(process).stderr}")
            time.sleep(0.02)
        self._disk.lose_power()
        end(process)
        disarm(self._faults)

    def cut_after(self, name: str, *arguments: object) -> None:
        """Run a command to its end, with exit code 0; then the power fails at once."""
        process = self._begin(name, *arguments)
        process.wait(LIMIT)
        self._disk.lose_power()
        done = end(process)
        assert done.returncode == 0, done.stderr

    def holds(self, name: str) -> bool:
        """Whether a file or folder exists on the file system."""
        return os.path.lexists(self._disk.outside / name)

    def copy(self, name: str) -> Path:
        """Copy a file or folder of the file system to where the test can open it."""
        source, target = self._disk.outside / name, self._folder / "copies" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            return shutil.copytree(source, target, dirs_exist_ok=True)
        return Path(shutil.copyfile(source, target))

    def _begin(self, name: str, *arguments: object) -> subprocess.Popen:
        return begin(
            name,
            *arguments,
            faults=self._faults,
            cwd=self._folder,
            prefix=self._disk.prefix,
            variables=_VARIABLES,
        )


@contextmanager
def powered_commands(folder: Path) -> Iterator[PoweredCommands]:
    """A file system that can lose power; skip the test, with the reason, where that is missing."""
    if os.geteuid() != 0:
        pytest.skip("power loss needs root, to mount a file system")
    disks = power_disk(folder)
    try:
        disk = disks.__enter__()
    except OSError as error:
        pytest.skip(f"power loss cannot be simulated here: {error}")
    try:
        yield PoweredCommands(folder, disk)
    finally:
        disks.__exit__(None, None, None)
