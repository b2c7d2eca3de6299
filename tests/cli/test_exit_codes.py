"""The exit code says whether a retry can succeed: 2 no; 74 (disk or store) and 75 yes."""

import errno
import os
from dataclasses import dataclass

import pytest

from srch_dist.cli.command import run_command
from srch_dist.errors import (
    ClusterLostError,
    InputError,
    PlanError,
    StorageError,
    StorageUnavailableError,
)


@dataclass(frozen=True)
class Options:
    """Do what a command does."""

    data: str = "a.zarr"


def lost(name: str) -> OSError:
    code = getattr(errno, name)
    return OSError(code, os.strerror(code), "/data/a")


ENDS = [
    (InputError("wrong"), 2, False),
    (PlanError("too large"), 2, False),
    (StorageError("already exists"), 2, False),
    (StorageUnavailableError("cannot write /data/a: Stale file handle"), 74, True),
    (lost("EIO"), 74, True),
    (lost("ESTALE"), 74, True),
    (ClusterLostError("the scheduler was lost"), 75, True),
    (KeyboardInterrupt(), 75, True),
]


@pytest.mark.parametrize(("error", "code", "resumes"), ENDS)
def test_exit_code_and_resume_line(capsys, error, code, resumes):
    def work(_options, _progress):
        raise error

    with pytest.raises(SystemExit) as end:
        run_command("train", Options, work, ["--data", "b.zarr"], out="runs/first")
    assert end.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    line = "python -m srch_dist.train --data b.zarr --out runs/first --resume"
    assert (lines[-1] == f"resume: finished work is kept. Run: {line}") == resumes
    assert len(lines) == (2 if resumes else 1)
    assert lines[0] == ("interrupted" if str(error) == "" else f"error: {error}")


def test_a_command_that_cannot_resume_prints_the_error_alone(capsys):
    def work(_options, _progress):
        raise StorageUnavailableError("the server is away")

    with pytest.raises(SystemExit) as end:
        run_command("evaluate", Options, work, [])
    assert end.value.code == 74
    assert capsys.readouterr().err == "error: the server is away\n"


def test_an_error_of_the_program_is_not_hidden():
    def work(_options, _progress):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/data/a")

    with pytest.raises(FileNotFoundError):
        run_command("train", Options, work, [], out="runs/first")
