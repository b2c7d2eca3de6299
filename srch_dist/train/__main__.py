"""`python -m srch_dist.train`: learn codes from a feature store, score them, show examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from srch_dist.cli.command import output, parse_training, resume_line, run_command
from srch_dist.cli.console import print_evaluation, print_examples
from srch_dist.cli.progress import on_console
from srch_dist.train.runner import default_folder, train_model


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with options from the command line."""
    # Chosen before the run, so that the command to resume an interrupted run can name the folder.
    out = default_folder()
    run_command(lambda: _train(arguments, out), lambda: resume_line("train", arguments, out))


def _train(arguments: Sequence[str] | None, out: str) -> None:
    config = parse_training(arguments)
    config = dataclasses.replace(config, out=config.out or out)
    trained = train_model(config, on_console())
    console = output()
    if trained.evaluation is not None:
        print_evaluation(console, trained.evaluation)
        for direction, examples in (trained.run.record("examples") or {}).items():
            print_examples(console, direction, examples)
    places = {"run": trained.run.path, "data": trained.store.path}
    if config.report and trained.run.page.exists():
        places["page"] = trained.run.page
    for name, place in places.items():
        console.print(f"{name}: {place}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
