"""Help of every command: each option says what it is for, in whole lines."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from srch_dist.__main__ import COMMANDS, main
from srch_dist.cli.help_texts import option_texts
from srch_dist.cli.logs import LogOptions
from srch_dist.config.options import TrainConfig
from tests.helpers.commands import run_command

WIDTH = 100  # as `run_command` has it


@cache
def help_of(name: str) -> str:
    """The help of a command as a terminal of `WIDTH` columns shows it."""
    done = run_command(name, "--help", folder=Path.cwd(), PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_in_whole_lines_without_python(name):
    text = help_of(name)
    assert text.startswith(f"usage: python -m srch_dist.{name} ")
    assert "None}" not in text
    assert "`" not in text or name == "plan"
    lines = [line[2:-2].rstrip() for line in text.splitlines() if line.startswith("│")]
    indented = [len(line) - len(line.lstrip()) for line in lines]
    assert len(lines) > 2
    for line, after, left, right in zip(lines, lines[1:], indented, indented[1:], strict=False):
        if left == right and left > 5:  # a text that goes on
            assert len(line) + 1 + len(after.split()[0]) > WIDTH - 4, line


@pytest.mark.parametrize("name", ["train", "sweep"])
def test_every_option_of_training_is_there_with_its_text(name):
    text = " ".join(help_of(name).replace("│", " ").split())
    for item in dataclasses.fields(TrainConfig):
        section = item.default_factory
        kind = section if isinstance(section, type) else TrainConfig
        for option, described in option_texts(kind).items():
            if name == "sweep" and option in ("data", "out", "work", "resume"):
                continue
            assert described, option
            assert described in text, option
            assert f"{option.replace('_', '-')} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_log_options(name):
    text = " ".join(help_of(name).replace("│", " ").split())
    for option, described in option_texts(LogOptions).items():
        assert f"--{option.replace('_', '-')} " in text
        assert described in text


def test_help_lists_the_commands(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("wrong", "near"), [("trian", "train"), ("sreach", "search"), ("plans", "plan"), ("xyz", None)]
)
def test_an_unknown_command_is_refused_with_the_nearest_name(wrong, near, capsys):
    with pytest.raises(SystemExit) as end:
        main([wrong])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    hint = f"; did you mean {near}?" if near else ""
    assert shown.err.startswith(f"error: there is no command '{wrong}'{hint}\n")
    assert all(f"  {name} " in shown.err for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["--version"], ["-h"]])
def test_no_command_is_imported_for_version_and_help(arguments):
    program = (
        "import sys; from srch_dist.__main__ import main; main(sys.argv[1:]); "
        "print('distributed' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
