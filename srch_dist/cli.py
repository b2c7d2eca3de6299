"""What the `python -m` entries share: parsing, and errors as one line with exit code 2."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tyro
from rich.console import Console

from srch_dist.config import TrainConfig, build_config, check_config, load_config
from srch_dist.errors import SrchError

T = TypeVar("T")

BAD_INPUT = 2
INTERRUPTED = 130


def parse(kind: Callable[..., T], command: str, arguments: Sequence[str] | None) -> T:
    """Parse command-line arguments into a dataclass; bad ones end with exit code 2."""
    return tyro.cli(kind, prog=program(command), args=arguments)


def program(command: str) -> str:
    """What a command was called as, for its usage line."""
    if Path(sys.argv[0]).name == "srch-dist":
        return f"srch-dist {command}"
    return f"python -m srch_dist.{command}"


@dataclasses.dataclass(frozen=True)
class _TrainOptions(TrainConfig):
    __doc__ = TrainConfig.__doc__

    config: str | None = None
    """YAML file of options; those on the command line override it."""


def parse_training(arguments: Sequence[str] | None) -> TrainConfig:
    """`TrainConfig` from the command line, over the YAML file of ``--config``, over a preset."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--preset")
    known, _ = first.parse_known_args(arguments)
    if known.config is not None:
        base = load_config(known.config, known.preset)
    else:
        base = build_config({}, known.preset)
    names = [item.name for item in dataclasses.fields(TrainConfig)]
    default = _TrainOptions(**{name: getattr(base, name) for name in names})
    given = tyro.cli(_TrainOptions, prog=program("train"), default=default, args=arguments)
    return check_config(TrainConfig(**{name: getattr(given, name) for name in names}))


def run_command(work: Callable[[], None]) -> None:
    """Run a command's work and exit: 2 with one line where it refuses, 130 when interrupted."""
    try:
        work()
    except SrchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def output() -> Console:
    """Where results are printed; wide enough for a table where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
