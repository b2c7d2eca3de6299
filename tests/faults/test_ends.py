"""Signals end a command with one line and exit code 75, and leave nothing on the machine."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from srch_dist.runtime.temporary import temporary_folder
from tests.helpers.faults import LIMIT, options
from tests.helpers.processes import await_true

pytestmark = pytest.mark.cluster

ENDLESS = ("--method.iterations", "100000")


@dataclass(frozen=True)
class Command:
    """A running `srch_dist.train` on a local cluster, in a session of its own."""

    process: subprocess.Popen
    errors: Path
    temporary: Path

    def text(self) -> str:
        return self.errors.read_text()

    def await_text(self, text: str) -> None:
        await_true(lambda: text in self.text() or self.process.poll() is not None, LIMIT)
        assert text in self.text()

    def workers(self) -> list[int]:
        """Process ids of its session, without its own."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (OSError, NotADirectoryError):
                continue
            if fields[3] == str(self.process.pid) and entry.name != str(self.process.pid):
                found.append(int(entry.name))
        return found

    def assert_interrupted(self) -> None:
        """Exit code 75, two lines about the end, and no process or temporary folder."""
        assert self.process.wait(LIMIT) == 75, self.text()
        interrupted, resume = self.text().splitlines()[-2:]
        assert interrupted == "interrupted", self.text()
        assert resume.startswith("resume: finished work is kept. Run: python -m srch_dist.train ")
        assert resume.endswith("--resume")
        for word in ("Traceback", "Error", "Exception", "distributed"):
            assert word not in self.text(), self.text()
        await_true(lambda: not self.workers(), LIMIT)
        assert not list(self.temporary.iterdir())
        assert not list(self.errors.parent.rglob("dask-scratch-space"))


def _heed_signals() -> None:
    """A test run in the background, or under nohup, ignores signals; its children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def local_training(store, folder: Path, *more: str, start=(), workers: int = 2):
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    errors = folder / "errors.txt"
    line = [sys.executable, "-m", "srch_dist.train", *options(store, folder / "run")]
    process = subprocess.Popen(
        [*start, *line, "--workers", str(workers), *more],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors.open("w"),
        start_new_session=True,
        preexec_fn=_heed_signals,
    )
    command = Command(process, errors, temporary)
    try:
        yield command
    finally:
        for pid in [*command.workers(), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _twice(command: Command) -> None:
    os.killpg(command.process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(command.process.pid, signal.SIGINT)


SIGNALS = {
    "SIGHUP": lambda command: command.process.send_signal(signal.SIGHUP),
    "SIGTERM": lambda command: command.process.send_signal(signal.SIGTERM),
    "Ctrl-C to the group": lambda command: os.killpg(command.process.pid, signal.SIGINT),
    "Ctrl-C to the group, twice": _twice,
    "SIGHUP to the group": lambda command: os.killpg(command.process.pid, signal.SIGHUP),
    "SIGTERM to the group": lambda command: os.killpg(command.process.pid, signal.SIGTERM),
}


@pytest.mark.slow
@pytest.mark.fault("local cluster: SIGHUP, SIGTERM, Ctrl-C, to the command or the group", "refused")
@pytest.mark.parametrize("name", SIGNALS)
def test_signal_during_training(store, tmp_path, name):
    with local_training(store, tmp_path, *ENDLESS) as command:
        command.await_text("plan: ")
        SIGNALS[name](command)
        command.assert_interrupted()


@pytest.mark.slow
@pytest.mark.fault("local cluster: its terminal is closed", "refused")
def test_closed_terminal(store, tmp_path):
    (tmp_path / "tmp").mkdir()
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        line = ["-m", "srch_dist.train", *options(store, tmp_path / "run"), "--workers", "1"]
        env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "TERM": "xterm-256color"}
        os.execve(sys.executable, [sys.executable, *line, *ENDLESS], env)
    seen = b""
    while b"plan: " not in seen:
        seen += os.read(terminal, 65536)
    os.close(terminal)
    status: list[int] = []
    await_true(lambda: _reap(process, status), LIMIT)
    assert os.waitstatus_to_exitcode(status[0]) == 75
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "run" / "lock.json").exists()


def _reap(process: int, status: list[int]) -> bool:
    pid, code = os.waitpid(process, os.WNOHANG)
    status[:] = [code]
    return pid == process


@pytest.mark.slow
@pytest.mark.fault("local cluster: a signal while workers start", "refused")
@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8])
def test_signal_while_workers_start(store, tmp_path, seconds):
    with local_training(store, tmp_path, *ENDLESS) as command:
        await_true(lambda: any(command.temporary.iterdir()), LIMIT)
        time.sleep(seconds)
        os.killpg(command.process.pid, signal.SIGINT)
        command.assert_interrupted()
    assert not (tmp_path / "run").exists() or (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
@pytest.mark.fault("local cluster: interrupted, then its own line", "survived")
def test_interrupted_local_training_resumes(store, clean, tmp_path):
    with local_training(store, tmp_path) as command:
        command.await_text("iteration  1")
        os.killpg(command.process.pid, signal.SIGINT)
        command.assert_interrupted()
    with local_training(store, tmp_path, "--resume") as command:
        assert command.process.wait(LIMIT) == 0, command.text()
    clean.assert_same(tmp_path / "run")


@pytest.mark.fault("nohup: SIGHUP of a command that ignores it", "survived")
def test_ignored_hangup_stays_ignored(store, tmp_path):
    with local_training(store, tmp_path, start=["nohup"]) as command:
        command.await_text("iteration  1")
        os.killpg(command.process.pid, signal.SIGHUP)
        assert command.process.wait(LIMIT) == 0, command.text()


@pytest.mark.slow
@pytest.mark.fault("kill -9 of a command with a local cluster, then the next one", "survived")
def test_next_command_removes_what_a_killed_one_left(store, tmp_path):
    with local_training(store, tmp_path, *ENDLESS) as command:
        command.await_text("plan: ")
        command.process.kill()
        command.process.wait()
        await_true(lambda: not command.workers(), LIMIT)
        (left,) = command.temporary.iterdir()
        assert (left / "dask-scratch-space").exists()
    with local_training(store, tmp_path, *ENDLESS, "--resume") as command:
        command.await_text("plan: ")
        (own,) = command.temporary.iterdir()
        assert own != left
        command.process.send_signal(signal.SIGTERM)
        command.assert_interrupted()


def test_only_own_folders_without_an_owner_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "srch-dist-of-others").mkdir()
    (tmp_path / "srch-dist-of-others" / "data").touch()
    (tmp_path / "srch-dist-file").touch()
    target = tmp_path / "target"
    target.mkdir()
    (target / "owner.lock").touch()
    (tmp_path / "srch-dist-link").symlink_to(target)
    (tmp_path / "srch-dist-dead").mkdir()
    (tmp_path / "srch-dist-dead" / "owner.lock").touch()
    with temporary_folder() as first, temporary_folder() as second:
        names = {path.name for path in tmp_path.iterdir()}
        assert {Path(first).name, Path(second).name} < names
        assert "srch-dist-dead" not in names
    rest = {"srch-dist-of-others", "srch-dist-file", "srch-dist-link", "target"}
    assert {path.name for path in tmp_path.iterdir()} == rest
