"""`python -m srch_dist.train`: learn codes from a feature store, score them, show examples."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

from srch_dist.cli.command import (
    TrainOptions,
    output,
    print_line,
    program_called,
    run_command,
    training_config,
)
from srch_dist.cli.console import print_evaluation, print_examples
from srch_dist.runtime.progress import Progress
from srch_dist.train.runner import default_folder, train_model


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with options from the command line."""
    # Chosen here, so that the message on an interruption can name the run directory.
    out = default_folder()

    def train(options: TrainOptions, progress: Progress) -> None:
        _train(options, out, progress)

    run_command("train", TrainOptions, train, arguments, out)


def _train(options: TrainOptions, out: str, progress: Progress) -> None:
    config = training_config(options)
    config = dataclasses.replace(config, out=config.out or out)
    trained = train_model(config, progress)
    if trained.evaluation is not None:
        print_evaluation(output(), trained.evaluation)
        for direction, examples in (trained.run.record("examples") or {}).items():
            print_examples(output(), direction, examples)
    places = {"run": trained.run.path, "data": trained.store.path}
    if config.report and trained.run.page.exists():
        places["page"] = trained.run.page
    for name, place in places.items():
        print_line(f"{name}: {place}")
    _print_next(str(trained.run.path), trained.store.path, list(trained.store.modalities))


def _print_next(run: str, store: str, modalities: Sequence[str]) -> None:
    """Print two commands: encode the first modality; search its codes for a row of the last."""
    codes = f"{modalities[0]}-codes.zarr"
    there = ["--model", run, "--data", store]
    encode = [*there, "--modality", modalities[0], "--out", codes]
    search = [*there, "--codes", codes, "--modality", modalities[-1], "--query", "0"]
    print_line(f"next: {program_called('encode')} {shlex.join(encode)}")
    print_line(f"then: {program_called('search')} {shlex.join(search)}")


if __name__ == "__main__":
    main()
