"""What the `python -m` entries share: parsing, and errors as one line with exit code 2."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro
from rich.console import Console

from srch_dist.cli.help_texts import REGISTRY
from srch_dist.config.loading import build_config, check_config, load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ClusterLostError, SrchError

T = TypeVar("T")

BAD_INPUT = 2
_QUIET = ("asyncio", "distributed", "distributed.client", "distributed.core", "tornado")
# What is not given is absent; nobody has to read or write that as None.
_CONFIG = (tyro.conf.DisallowNone,)
# As of sysexits.h: not an error of the input, and worth another try.
TRY_AGAIN = 75


def parse(kind: Callable[..., T], command: str, arguments: Sequence[str] | None) -> T:
    """Parse command-line arguments into a dataclass; bad ones end with exit code 2."""
    return tyro.cli(kind, prog=program(command), args=arguments, config=_CONFIG, registry=REGISTRY)


def program(command: str) -> str:
    """What a command was called as, for its usage line."""
    if Path(sys.argv[0]).name == "srch-dist":
        return f"srch-dist {command}"
    return f"python -m srch_dist.{command}"


@dataclasses.dataclass(frozen=True)
class TrainOptions(TrainConfig):  # noqa: D101 - it is that of the configuration
    __doc__ = TrainConfig.__doc__

    config: str | None = None
    """YAML file of options; those on the command line override it."""


Options = TypeVar("Options", bound=TrainOptions)


def parse_training(arguments: Sequence[str] | None) -> TrainConfig:
    """`TrainConfig` from the command line, over the YAML file of ``--config``, over a preset."""
    return parse_options(TrainOptions, "train", arguments)[1]


def parse_options(
    kind: type[Options], command: str, arguments: Sequence[str] | None
) -> tuple[Options, TrainConfig]:
    """As `parse_training`, for a command with options beside those of training: all, and these."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--preset")
    known, _ = first.parse_known_args(arguments)
    if known.config is not None:
        base = load_config(known.config, known.preset)
    else:
        base = build_config({}, known.preset)
    names = [item.name for item in dataclasses.fields(TrainConfig)]
    default = kind(**{name: getattr(base, name) for name in names})
    given = tyro.cli(
        kind,
        prog=program(command),
        default=default,
        args=arguments,
        config=_CONFIG,
        registry=REGISTRY,
    )
    return given, check_config(TrainConfig(**{name: getattr(given, name) for name in names}))


def run_command(work: Callable[[], None], go_on: Callable[[], str] = lambda: "") -> None:
    """Run a command's work and exit: 2 with one line where it refuses.

    Where it is interrupted, by SIGINT or SIGTERM or with its cluster, it exits with 75 and what
    ``go_on`` says of how to go on from there.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # What goes wrong is said once, by the command; these would add their own accounts of it.
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        work()
    except ClusterLostError as error:
        print(f"error: {error}", file=sys.stderr)
        _exit_to_go_on(go_on())
    except SrchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _exit_to_go_on(go_on())


def resume_line(command: str, arguments: Sequence[str] | None, out: str) -> str:
    """The line to type to go on with an interrupted run, or sweep, in the directory ``out``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not any(one == "--out" or one.startswith("--out=") for one in given):
        given += ["--out", out]
    if command == "train" and "--resume" not in given:
        given.append("--resume")
    return shlex.join(["python", "-m", f"srch_dist.{command}", *given])


def _interrupt(_signal: int, _frame: object) -> None:
    # Whoever stops a machine sends it again and again; the way out is not to be interrupted too.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _exit_to_go_on(line: str) -> NoReturn:
    if line:
        print(f"what is finished is kept; go on with: {line}", file=sys.stderr)
    sys.exit(TRY_AGAIN)


def output() -> Console:
    """Where results are printed; wide enough for a table where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
