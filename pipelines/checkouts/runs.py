"""Run the commands of a checkout as processes, and kill a training in its loop.

Every command leads a session of its own. Whatever is left of the session is killed when the
command ends, so that no worker outlives it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_COMMAND_SECONDS, _END_SECONDS, _LOOK_SECONDS = 900, 30, 0.02
# Begins the line of the log that names a command.
_HEAD = "--- "
# A cluster of the user's would take the place of the local one.
_UNSET = ("DASK_SCHEDULER_ADDRESS",)


class CommandError(Exception):
    """A command that did not end as it should; the message has its last lines."""


@dataclass(frozen=True)
class Checkout:
    """One of the two versions.

    Attributes
    ----------
    name : ``old`` or ``new``.
    path : folder that holds the package ``srch_dist``.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Side:
    """A folder that the commands of a checkout write to.

    Attributes
    ----------
    checkout : whose commands run.
    begins : whose training is killed in the loop before ``checkout`` resumes it.
    folder : the commands' working directory; paths of the commands are relative to it.
    scratch : folder of temporary files and of the log.
    """

    checkout: Checkout
    begins: Checkout
    folder: Path
    scratch: Path

    def run(self, command: str, *arguments: str, output: str | None = None) -> None:
        """Run ``python -m srch_dist.<command>``; ``output`` names a file for what it prints.

        Raises
        ------
        CommandError : the exit code is not 0, or the command did not end in 15 minutes.
        """
        process = self._start(self.checkout, command, arguments, output)
        try:
            code = process.wait(_COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._error(command, f"did not end within {_COMMAND_SECONDS} s") from None
        finally:
            end_session(process)
        if code:
            raise self._error(command, f"ended with code {code}")

    def kill_when(self, ready: Callable[[], bool], command: str, *arguments: str) -> None:
        """Start a command of ``begins`` and kill it, and all that it started, once ``ready``.

        Raises
        ------
        CommandError : the command ended before.
        """
        process = self._start(self.begins, command, arguments, None)
        deadline = time.monotonic() + _COMMAND_SECONDS
        try:
            while not ready():
                if process.poll() is not None:
                    raise self._error(command, "ended before it could be killed")
                if time.monotonic() > deadline:
                    raise self._error(command, f"was not ready within {_COMMAND_SECONDS} s")
                time.sleep(_LOOK_SECONDS)
        finally:
            end_session(process)

    @property
    def log(self) -> Path:
        """What the commands printed to stderr, and to stdout unless it went to a file."""
        return self.scratch / f"{self.folder.name}.log"

    def _start(
        self, checkout: Checkout, command: str, arguments: tuple[str, ...], output: str | None
    ) -> subprocess.Popen[bytes]:
        given = [sys.executable, "-m", f"srch_dist.{command}", *arguments]
        self.scratch.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log, (self.folder / (output or os.devnull)).open("wb") as out:
            log.write(f"{_HEAD}{checkout.name}: {command} {' '.join(arguments)}\n".encode())
            log.flush()
            return subprocess.Popen(
                given,
                cwd=self.folder,
                env=_environment(checkout, self.scratch),
                stdin=subprocess.DEVNULL,
                stdout=out if output else log,
                stderr=log,
                start_new_session=True,
            )

    def _error(self, command: str, what: str) -> CommandError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = "it printed nothing" if lines[-1].startswith(_HEAD) else lines[-1]
        return CommandError(f"{command} {what}: {last} (see {self.log})")


def check_checkout(checkout: Checkout, scratch: Path) -> None:
    """Raise CommandError unless processes of a checkout import the package from its folder."""
    scratch.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", "import srch_dist; print(srch_dist.__file__)"],
        cwd=scratch,
        env=_environment(checkout, scratch),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CommandError(f"{checkout.path} has no package srch_dist: {reason}")
    found = Path(done.stdout.strip())
    if not found.is_relative_to(checkout.path):
        raise CommandError(f"python imports {found}, expected srch_dist in {checkout.path}")


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all of its session, and wait until they are gone.

    Raises
    ------
    CommandError : a process of the session is still there after 30 s.
    """
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + _END_SECONDS
    while left := session_members(process.pid):
        for one in left:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise CommandError(f"processes {left} of session {process.pid} do not end")
        time.sleep(_LOOK_SECONDS)


def session_members(session: int) -> list[int]:
    """Processes of a session that have not ended, read from ``/proc``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of the program, in brackets, may hold spaces.
            state, _, _, leader = path.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(leader) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def _environment(checkout: Checkout, scratch: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _UNSET}
    # One thread a process: both sides then add up in the same order, however busy the machine is.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # A killed command leaves its temporary files, which are removed with the folder.
    return {**kept, **threads, "PYTHONPATH": str(checkout.path), "TMPDIR": str(scratch)}
