"""Run a command: parse options, show progress, and exit with a code that names the failure."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import tyro
from rich.console import Console
from tyro.constructors import MISSING_NONPROP

from srch_dist.cli.exit_codes import BAD_INPUT, NO_STORAGE, PIPE_CLOSED, TRY_AGAIN
from srch_dist.cli.help_texts import REGISTRY
from srch_dist.cli.interrupts import catch_interrupts
from srch_dist.cli.logs import LogOptions, find_log_options, report_end, reporting
from srch_dist.cli.option_names import refuse_missing_options, refuse_unknown_names
from srch_dist.cli.safe_text import SafeConsole
from srch_dist.config.loading import build_config, check_config, load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ClusterLostError, ConfigError, SrchError, is_outage
from srch_dist.runtime.progress import TABLE_WIDTH, Progress
from srch_dist.runtime.temporary import missing_folder

T = TypeVar("T")

# Loggers that would repeat a failure which the command itself reports.
_QUIET = ("asyncio", "distributed", "distributed.client", "distributed.core", "tornado")
# On the command line, an option without a value is left out; the text `None` is not accepted.
_TYRO = (tyro.conf.DisallowNone,)
# Marks a field whose own fields are options of the command, without a prefix.
FLAT = tyro.conf.arg(name="")


@dataclasses.dataclass(frozen=True)
class TrainOptions(TrainConfig):  # noqa: D101 - the documentation is that of TrainConfig
    __doc__ = TrainConfig.__doc__

    config: str | None = None
    """YAML file of options. The file overrides the preset; the command line overrides the file."""


def run_command(
    command: str,
    kind: type[T],
    work: Callable[[T, Progress], None],
    arguments: Sequence[str] | None,
    out: str | None = None,
) -> None:
    """Parse options, run a command's work, and exit with an exit code if the work fails.

    Exit code 2: the options or the data are refused. Exit code 74: a disk or store went away or is
    full. Exit code 75: a signal or a lost cluster interrupts the command.

    Parameters
    ----------
    command : name, as in `python -m srch_dist.NAME`.
    kind : dataclass of the command's options.
    work : called with the options and the progress display.
    arguments : the command line; None reads the command line of the process.
    out : default output folder of a command that can resume; after an interruption, the command
        line that resumes is printed. None: the command cannot resume.
    """
    catch_interrupts()
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = find_log_options(arguments)
    with _plain_streams(), reporting(options) as progress:
        try:
            work(parse(kind, command, arguments), progress)
        except ClusterLostError as error:
            report_end(options, f"error: {error}", exit_code=TRY_AGAIN)
            _exit_interrupted(options, command, arguments, out)
        except (SrchError, OSError) as error:
            if is_outage(error):
                report_end(options, f"error: {error}", exit_code=NO_STORAGE)
                _exit_interrupted(options, command, arguments, out, NO_STORAGE)
            refusal = missing_folder(error) if isinstance(error, FileNotFoundError) else error
            if not isinstance(refusal, SrchError):
                raise
            report_end(options, f"error: {refusal}", exit_code=BAD_INPUT)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            report_end(options, "interrupted", exit_code=TRY_AGAIN)
            _exit_interrupted(options, command, arguments, out)


@contextmanager
def _plain_streams() -> Iterator[None]:
    """Avoid tracebacks from output: escape unencodable characters, exit if the pipe is closed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # closed by the caller: output goes nowhere
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the exit
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout again at exit. Redirect stdout, so that this succeeds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)


def parse(kind: type[T], command: str, arguments: Sequence[str] | None) -> T:
    """Parse a command line into the dataclass ``kind``; wrong options exit with code 2.

    For training, the YAML file overrides the preset, and the command line overrides both.
    """
    default = _training_defaults(kind, arguments) if issubclass(kind, TrainOptions) else None
    words = sys.argv[1:] if arguments is None else arguments
    refuse_unknown_names(kind, words)
    refuse_missing_options(kind, words)
    if find_log_options(arguments).log_format == "plain":
        return _parse(kind, command, arguments, default)
    message = StringIO()
    try:
        with redirect_stderr(message):
            return _parse(kind, command, arguments, default)
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(_without_boxes(message.getvalue())) from None


def parse_training(arguments: Sequence[str] | None) -> TrainConfig:
    """Parse a command line of `srch_dist.train` into a checked configuration."""
    return training_config(parse(TrainOptions, "train", arguments))


def training_config(options: TrainOptions) -> TrainConfig:
    """Extract and check the training configuration from the options of a command that trains."""
    return check_config(TrainConfig(**_training_values(options)))


def resume_line(command: str, arguments: Sequence[str] | None, out: str) -> str:
    """Build the command line that resumes an interrupted run or sweep in the directory ``out``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", out]
    if command == "train" and "--resume" not in words:
        words.append("--resume")
    return f"{program_called(command)} {shlex.join(words)}"


def output() -> Console:
    """Create the console for results, with a fixed width if the output is no terminal."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=TABLE_WIDTH)


def print_line(line: str) -> None:
    """Print one line of a result unchanged: without wrapping, and without markup in brackets."""
    output().print(line, soft_wrap=True, highlight=False, markup=False)


def _parse(kind: type[T], command: str, arguments: Sequence[str] | None, default: T | None) -> T:
    with_log = dataclasses.make_dataclass(
        kind.__name__,
        [("log", Annotated[LogOptions, FLAT], dataclasses.field(default_factory=LogOptions))],
        bases=(kind,),
        namespace={"__doc__": kind.__doc__},
        frozen=True,
    )
    options = tyro.cli(
        with_log,
        prog=program_called(command),
        args=arguments,
        default=MISSING_NONPROP if default is None else with_log(**vars(default)),
        config=_TYRO,
        registry=REGISTRY,
    )
    return cast(T, options)


def program_called(command: str) -> str:
    """Return the program and command as the user typed them, such as ``srch-dist train``."""
    called = Path(sys.argv[0])
    if called.name == "srch-dist":
        return f"srch-dist {command}"
    if called.parts[-2:] == ("srch_dist", "__main__.py"):
        return f"python -m srch_dist {command}"
    return f"python -m srch_dist.{command}"


def _training_defaults(kind: type[T], arguments: Sequence[str] | None) -> T:
    """Read the default options of a command that trains: its YAML file overrides its preset."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", nargs="?")
    first.add_argument("--preset", nargs="?")
    known, _ = first.parse_known_args(arguments)
    if known.config is not None:
        config = load_config(known.config, known.preset)
    else:
        config = build_config({}, known.preset)
    return kind(**_training_values(config))


def _training_values(config: TrainConfig) -> dict[str, Any]:
    return {item.name: getattr(config, item.name) for item in dataclasses.fields(TrainConfig)}


def _without_boxes(text: str) -> str:
    """Remove the frame around the parser's message, and join the message to one line."""
    words = "".join(" " if "─" <= sign <= "╿" else sign for sign in text).split()
    return " ".join(words)


def _exit_interrupted(
    options: LogOptions,
    command: str,
    arguments: Sequence[str] | None,
    out: str | None,
    code: int = TRY_AGAIN,
) -> NoReturn:
    if out is not None:
        line = resume_line(command, arguments, out)
        report_end(options, f"resume: finished work is kept. Run: {line}", resume=line)
    sys.exit(code)
