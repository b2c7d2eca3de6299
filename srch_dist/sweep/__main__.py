"""`python -m srch_dist.sweep`: train with every combination of a grid of options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from srch_dist.cli.command import TrainOptions, output, parse_options, resume_line, run_command
from srch_dist.cli.progress import on_console
from srch_dist.sweep.grid import parse_grid
from srch_dist.sweep.results import results_table
from srch_dist.sweep.runner import sweep_options
from srch_dist.train.runner import default_folder


@dataclass(frozen=True)
class _Options(TrainOptions):
    """Train with every combination of a grid of options; those with the same graph share it.

    Options of training are those of srch_dist.train, and hold for all runs. The same line again
    goes on with what is not done.
    """

    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = None
    """Feature store made by srch_dist.ingest; the shipped emoji pairs when absent."""
    out: str | None = None
    """Folder of the sweep: runs, results.csv, results.json, sweep.png; a new one under runs/ when
    absent."""
    work: tyro.conf.Suppress[str | None] = None
    resume: tyro.conf.Suppress[bool] = False
    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """An option and its values, as bits=16,32,64 or method.beta=0.3,1,3; may be given again for
    other options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Sweep with options from the command line."""
    out = default_folder()
    run_command(lambda: _sweep(arguments, out), lambda: resume_line("sweep", arguments, out))


def _sweep(arguments: Sequence[str] | None, out: str) -> None:
    options, config = parse_options(_Options, "sweep", arguments)
    grid, folder = parse_grid(options.grid), config.out or out
    rows = sweep_options(config, grid, folder, on_console())
    console = output()
    console.print(results_table(list(grid), rows))
    console.print(f"sweep: {folder}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
