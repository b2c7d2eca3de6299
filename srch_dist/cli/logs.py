"""Log options of every command, and output of its log as plain text or JSON lines."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import tyro

from srch_dist.cli.progress import on_console
from srch_dist.cli.safe_text import visible
from srch_dist.runtime.progress import LOGGER, Progress, log_record, silent

Format = Literal["plain", "json"]
Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class LogOptions:
    """Log output on standard error. The options do not change results and are not recorded."""

    log_format: Format = "plain"
    """plain: text, with progress bars if the output is a terminal. json: one JSON object per line,
    also for errors, without progress bars; use json if a program reads the log."""
    log_level: Level = "info"
    """Lowest level of messages to show. debug adds the tables of the plan, and the start and
    seconds of each stage; warning shows only warnings and errors; error shows only errors."""
    verbose: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(aliases=("-v",))] = False
    """Short for --log-level debug. It overrides --log-level."""

    @property
    def level(self) -> int:
        """The level as an integer of the module `logging`."""
        if self.verbose:
            return logging.DEBUG
        return logging.getLevelNamesMapping()[self.log_level.upper()]


def find_log_options(arguments: Sequence[str] | None) -> LogOptions:
    """Read the log options from a command line, before the parser reads all options.

    Errors of the parser are then already logged with these options. Wrong values are ignored here;
    the parser refuses wrong values later.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--log-format", "--log_format", nargs="?")
    parser.add_argument("--log-level", "--log_level", nargs="?")
    known, _ = parser.parse_known_args(words)
    return LogOptions(
        known.log_format if known.log_format in get_args(Format) else "plain",
        known.log_level if known.log_level in get_args(Level) else "info",
        verbose="-v" in words or "--verbose" in words,
    )


@contextmanager
def reporting(options: LogOptions) -> Iterator[Progress]:
    """Yield the progress display of a command, with the log format and level of ``options``."""
    if options.log_format == "json":
        with _json_lines(options.level):
            yield silent()
    else:
        yield on_console(level=options.level)


def report_end(options: LogOptions, message: str, **fields: Any) -> None:
    """Report on standard error why a command ends without a result, in the log format."""
    if options.log_format == "json":
        log_record(logging.ERROR, message, **fields)
    else:
        print(visible(message), file=sys.stderr)


class _JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON line: time, level, logger, topic, message, and fields."""

    def format(self, record: logging.LogRecord) -> str:
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "topic": getattr(record, "topic", None),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


@contextmanager
def _json_lines(level: int) -> Iterator[None]:
    """Write all log records and Python warnings as JSON lines on standard error in this context."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    level_before, propagate_before = LOGGER.level, LOGGER.propagate
    # Dask's loggers have their own handlers.
    others = [
        other
        for logger in logging.root.manager.loggerDict.values()
        if isinstance(logger, logging.Logger)
        for other in logger.handlers
        if isinstance(other, logging.StreamHandler) and other.stream is sys.stderr
    ]
    formatters = [other.formatter for other in others]
    for other in others:
        other.setFormatter(handler.formatter)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    logging.root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    except Exception as error:
        extra = {"topic": "error", "fields": {"exit_code": 1}}
        LOGGER.critical(f"error: {type(error).__name__}: {error}", exc_info=True, extra=extra)
        sys.exit(1)
    finally:
        logging.captureWarnings(False)
        logging.root.removeHandler(handler)
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level_before)
        LOGGER.propagate = propagate_before
        for other, formatter in zip(others, formatters, strict=True):
            other.setFormatter(formatter)
