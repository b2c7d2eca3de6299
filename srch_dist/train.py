"""`python -m srch_dist.train`: learn codes from a feature store, score them, show examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import permutations

from srch_dist.cli import output, parse_training, resume_line, run_command
from srch_dist.progress import on_console
from srch_dist.report import print_evaluation, print_examples
from srch_dist.searching import example_queries
from srch_dist.storage.model import load_model
from srch_dist.training import Trained, default_folder, train_model

_EXAMPLES, _FOUND = 5, 8


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
    trained = train_model(config, on_console())
    console = output()
    if trained.evaluation is not None:
        print_evaluation(console, trained.evaluation)
        _show_examples(trained, config.seed)
    console.print(f"run: {trained.run.path}", soft_wrap=True, highlight=False)
    console.print(f"data: {trained.store.path}", soft_wrap=True, highlight=False)


def _show_examples(trained: Trained, seed: int) -> None:
    run, store = trained.run, trained.store
    if "titles" not in store.side and "characters" not in store.side:
        return
    model = load_model(run.path)
    for source, target in permutations(model.means, 2):
        found = example_queries(run, store, model, source, target, _EXAMPLES, _FOUND, seed)
        print_examples(output(), store, found, source, target)


if __name__ == "__main__":
    main()
