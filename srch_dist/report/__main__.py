"""`python -m srch_dist.report`: write the HTML report of a run, or compare several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from srch_dist.cli.command import print_line, run_command
from srch_dist.errors import ConfigError
from srch_dist.report import write_page, write_report_files
from srch_dist.runtime.progress import Progress
from srch_dist.storage.atomic_files import is_stream
from srch_dist.storage.locations import locate
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Write the HTML report of a finished run, or one HTML report that compares several runs.

    The report is one file. It needs no network and no server.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run directories. One directory gives a report of that run; several give a comparison."""
    out: str | None = None
    """File to write; by default report.html in the run directory, or comparison.html in the current
    folder."""
    figures: str | None = None
    """Folder for the charts as PDF and PNG, and the tables as CSV, Markdown and LaTeX. They are
    written after the page."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write an HTML report with options from the command line."""
    run_command("report", _Options, _report, arguments)


def _report(options: _Options, _progress: Progress) -> None:
    if not options.runs:
        raise ConfigError("the command has no run directory. Give one, or several to compare.")
    runs = [open_run(path) for path in options.runs]
    default = runs[0].page if len(runs) == 1 else locate("comparison.html")
    out = default if options.out is None else locate(options.out)
    write_page([run.path for run in runs], out)
    # The page itself may have gone to standard output.
    if not is_stream(out):
        print_line(f"page: {out}")
    if options.figures is not None:
        written = write_report_files([run.path for run in runs], options.figures)
        print_line(f"figures: {options.figures} files={len(written)}")


if __name__ == "__main__":
    main()
