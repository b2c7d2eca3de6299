"""Start separate processes, such as scheduler and workers, and end them with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SECONDS = 300  # timeout of every wait, on a busy machine


def await_true(check, seconds: float = SECONDS) -> None:
    """Wait until ``check`` returns something true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)


class Processes:
    """Processes in ``folder``, each with a log. A failed wait prints all logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen:
        """Start ``prefix`` and ``command``; the log file gets the output."""
        env = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*prefix, *map(str, command)],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.running[name]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def text(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")

    def await_text(self, name: str, text: str, times: int = 1) -> None:
        """Wait until the log of ``name`` contains ``text`` at least ``times`` times."""
        self.await_true(lambda: self.text(name).count(text) >= times, f"{text!r} of {name}")

    def await_true(self, check, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not check():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {n}\n{self.text(n)[-3000:]}" for n in self.running)
                raise AssertionError(f"no {what} within {SECONDS} s\n{logs}")
            time.sleep(0.1)

    def wait(self, name: str) -> int:
        """Wait for a process to end; return its exit code."""
        return self.running[name].wait(SECONDS)

    def kill(self, name: str, sign: int = signal.SIGKILL) -> None:
        """Signal a process and its children."""
        os.killpg(self.running[name].pid, sign)

    def end(self) -> None:
        for name, process in self.running.items():
            try:
                self.kill(name)
            except ProcessLookupError:
                continue
            finally:
                process.wait(SECONDS)


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    started = Processes(folder)
    try:
        yield started
    finally:
        started.end()


def dask(*arguments: object) -> list[str]:
    """Command line of `dask …` in the test environment."""
    return [sys.executable, "-m", "dask", *map(str, arguments)]
