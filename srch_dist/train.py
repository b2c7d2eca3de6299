"""`python -m srch_dist.train`: learn codes from a feature store, score them, show examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Console

from srch_dist.cli import output, parse_training, resume_line, run_command
from srch_dist.console import print_evaluation, print_examples
from srch_dist.errors import ExtraError
from srch_dist.examples import can_show, gather_examples
from srch_dist.progress import on_console
from srch_dist.reporting import write_page
from srch_dist.storage.run import RunDirectory
from srch_dist.training import default_folder, train_model

_EXAMPLES, _FOUND = 6, 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with options from the command line."""
    # Named here, so that an interrupted run can be told where to go on.
    out = default_folder()

    def go_on() -> str:
        return resume_line("train", arguments, out)

    run_command(lambda: _train(arguments, out), go_on)


def _train(arguments: Sequence[str] | None, out: str) -> None:
    config = parse_training(arguments)
    config = dataclasses.replace(config, out=config.out or out)
    progress = on_console()
    trained = train_model(config, progress)
    console = output()
    if trained.evaluation is not None:
        print_evaluation(console, trained.evaluation)
        if can_show(trained.store):
            examples = gather_examples(trained.run, trained.store, _EXAMPLES, _FOUND, config.seed)
            trained.run.write_record("examples", examples)
            for direction, found in examples.items():
                print_examples(console, direction, found)
    console.print(f"run: {trained.run.path}", soft_wrap=True, highlight=False)
    console.print(f"data: {trained.store.path}", soft_wrap=True, highlight=False)
    if config.report:
        _write_page(trained.run, console)


def _write_page(run: RunDirectory, console: Console) -> None:
    """Write the page of the run; what it needs is optional, and the run is good without it."""
    try:
        page = write_page([run.path], run.page)
    except ExtraError as error:
        console.print(f"no page: {error}", soft_wrap=True, highlight=False, markup=False)
    else:
        console.print(f"page: {page}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
