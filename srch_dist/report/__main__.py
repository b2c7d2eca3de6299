"""`python -m srch_dist.report`: the page of a run, or one that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from srch_dist.cli.command import output, parse, run_command
from srch_dist.errors import ConfigError, StorageError
from srch_dist.report import write_page
from srch_dist.storage.locations import locate
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Write the page of a finished run, or one page that compares several runs.

    The page is one HTML file that needs nothing else: no network, no server.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run directories: one for its own page, several to compare them."""
    out: str | None = None
    """File to write; report.html in the run directory, or comparison.html here."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a page with options from the command line."""
    run_command(lambda: _report(arguments))


def _report(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "report", arguments)
    if not options.runs:
        raise ConfigError("name a run directory, or several to compare them")
    runs = [open_run(path) for path in options.runs]
    default = runs[0].page if len(runs) == 1 else locate("comparison.html")
    out = default if options.out is None else locate(options.out)
    if isinstance(out, Path) and not out.parent.is_dir():
        raise StorageError(f"cannot write {out}: its folder does not exist")
    write_page([run.path for run in runs], out)
    output().print(f"page: {out}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
