"""`python -m srch_dist.sweep`: train every combination of a grid of options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from srch_dist.cli.command import TrainOptions, output, print_line, run_command, training_config
from srch_dist.errors import ConfigError
from srch_dist.runtime.progress import Progress
from srch_dist.sweep.grid import parse_grid
from srch_dist.sweep.results import Row, over_seeds, results_table, summary_table
from srch_dist.sweep.runner import sweep_options
from srch_dist.train.runner import default_folder


@dataclass(frozen=True)
class _Options(TrainOptions):
    """Train every combination of a grid of options; combinations with the same graph share it.

    All options of srch_dist.train are accepted too and hold for every run. Repeat the same command
    to resume an interrupted sweep.
    """

    store: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """Feature store. Use --data instead: this argument is for command lines of earlier versions."""
    out: str | None = None
    """Folder for the runs, results.csv, results.json and sweep.png; by default a new folder under
    runs/."""
    work: tyro.conf.Suppress[str | None] = None
    resume: tyro.conf.Suppress[bool] = False
    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """An option and its values, as bits=16,32,64 or method.beta=0.3,1,3. Repeat --grid for more
    options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Sweep with options from the command line."""
    # Chosen here, so that the message on an interruption can name the folder.
    out = default_folder()

    def sweep(options: _Options, progress: Progress) -> None:
        _sweep(options, out, progress)

    run_command("sweep", _Options, sweep, arguments, out)


def _sweep(options: _Options, out: str, progress: Progress) -> None:
    config = training_config(options)
    if options.store is not None:
        if config.data is not None:
            raise ConfigError(
                f"the command has two feature stores, {options.store} and --data {config.data}. "
                "Give one."
            )
        config = dataclasses.replace(config, data=options.store)
    grid, folder = parse_grid(options.grid), config.out or out

    def show(rows: Sequence[Row]) -> None:
        output().print(results_table(list(grid), rows))
        if averaged := over_seeds(list(grid), rows):
            output().print(summary_table(list(grid), averaged))

    sweep_options(config, grid, folder, progress, show)
    print_line(f"sweep: {folder}")


if __name__ == "__main__":
    main()
