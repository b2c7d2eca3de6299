"""Commands on a file system that loses power at a chosen moment; see `pipelines.faults.power`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipelines.faults.moments import FOLDER, arm, disarm, happened
from pipelines.faults.power import PowerDisk, power_disk
from tests.helpers.faults import LIMIT, end

_ROOT = Path(__file__).resolve().parents[2]


class PoweredCommands:
    """Commands of srch_dist whose outputs lie on a file system that can lose power.

    Attributes
    ----------
    disk : PowerDisk
        The file system.
    path : Path
        Its mount point, for arguments of commands; only commands see it.
    """

    def __init__(self, folder: Path, disk: PowerDisk) -> None:
        self.disk, self.path = disk, disk.path
        self._folder, self._faults = folder, folder / "armed"

    def run(self, name: str, *arguments: object) -> None:
        """Run a command to its end and assert exit code 0."""
        done = end(self._begin(f"srch_dist.{name}", *arguments))
        assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{done.stderr}"

    def cut_at(self, moment: str, call: int, name: str, *arguments: object) -> None:
        """Run a command up to the ``call``-th call of a moment; then the power fails."""
        arm(self._faults, moment, "hold", call)
        process = self._begin("pipelines.faults.client", name, *arguments)
        limit = time.monotonic() + LIMIT
        while not happened(self._faults):
            if process.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"{name} did not reach {moment!r}\n{end(process).stderr}")
            time.sleep(0.02)
        self.disk.lose_power()
        end(process)
        disarm(self._faults)

    def cut_after(self, name: str, *arguments: object) -> None:
        """Run a command to its end, with exit code 0; then the power fails at once."""
        process = self._begin(f"srch_dist.{name}", *arguments)
        process.wait(LIMIT)
        self.disk.lose_power()
        done = end(process)
        assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{done.stderr}"

    def holds(self, name: str) -> bool:
        """Whether a file or folder exists on the file system."""
        return os.path.lexists(self.disk.outside / name)

    def copy(self, name: str) -> Path:
        """Copy a file or folder of the file system to where the test can open it."""
        source, target = self.disk.outside / name, self._folder / "copies" / name
        assert self.holds(name), f"{name} is lost"
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            return shutil.copytree(source, target)
        return Path(shutil.copyfile(source, target))

    def _begin(self, module: str, *arguments: object) -> subprocess.Popen:
        faults = {
            FOLDER: str(self._faults),
            # Workers of the local cluster trigger faults too.
            "DASK_DISTRIBUTED__WORKER__PRELOAD": '["pipelines.faults.moments"]',
        }
        return subprocess.Popen(
            [*self.disk.prefix, sys.executable, "-m", module, *map(str, arguments)],
            cwd=self._folder,
            env={
                **os.environ,
                **{"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
                **(faults if module.startswith("pipelines.") else {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def powered_commands(folder: Path) -> Iterator[PoweredCommands]:
    """A file system that can lose power; skip the test, with the reason, where that is missing."""
    if os.geteuid() != 0:
        pytest.skip("power loss needs root, to mount a file system")
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(power_disk(folder))
        except OSError as error:
            pytest.skip(f"power loss cannot be simulated here: {error}")
        yield PoweredCommands(folder, disk)
