"""Post-processing of a finished run: retrieval scores, example queries, and the report page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srch_dist.config.options import TrainConfig
from srch_dist.errors import ExtraError, StorageError
from srch_dist.evaluate.examples import can_show, gather_examples
from srch_dist.evaluate.retrieval import evaluate_baseline, evaluate_run, has_queries
from srch_dist.report import write_page
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory

# Number of example queries per direction, and of results per query.
_EXAMPLES, _RESULTS = 6, 10


def score_run(
    run: RunDirectory, store: FeatureStore, config: TrainConfig, progress: Progress
) -> dict[str, Any] | None:
    """Score the model and the baseline; record and return the scores (None without queries).

    Raises
    ------
    StorageError : the scores cannot be written. They are in the log, and the run is finished.
    """
    if not config.evaluate or not has_queries(run, store):
        return None
    progress.note("scoring: encodes queries and database, and measures retrieval")
    evaluation = evaluate_run(run, store, progress)
    if (scores := evaluate_baseline(run, store, progress)) is not None:
        evaluation["baseline"] = scores
    try:
        run.write_record("evaluation", evaluation)
    except StorageError as error:
        progress.warn(f"scores: {_score_line(evaluation)}")
        raise type(error)(  # a full disk has an exit code of its own
            f"{error}. The run is finished and kept. Free disk space, then run the same command "
            "with --resume to write the scores."
        ) from None
    return evaluation


def _score_line(evaluation: Mapping[str, Any]) -> str:
    """Format MAP (with labels) and recall of the true partner, by direction."""
    parts = []
    for direction, pair in evaluation["pair_recall"].items():
        scores = evaluation.get("map", {}).get(direction)
        labelled = "" if scores is None else f"MAP={scores:.3f} "
        parts.append(f"{direction} {labelled}pair_recall@10={pair['10']:.3f}")
    return ", ".join(parts)


def present_run(
    run: RunDirectory, store: FeatureStore, config: TrainConfig, progress: Progress
) -> None:
    """Record example queries, if the data have text or pictures, and write the report page."""
    if config.evaluate and has_queries(run, store) and can_show(store):
        _try_examples(run, store, config, progress)
    if config.report:
        progress.note("report: writes the page")
        _try_page(run, progress)


# Training may have taken days, so an error in the examples or the page must not fail the run.
def _try_examples(
    run: RunDirectory, store: FeatureStore, config: TrainConfig, progress: Progress
) -> None:
    try:
        examples = gather_examples(run, store, _EXAMPLES, _RESULTS, config.seed)
        run.write_record("examples", examples)
    except Exception as error:
        progress.note(
            f"no example queries: {type(error).__name__}: {error}; to write them, run the same "
            "command with --resume"
        )


def _try_page(run: RunDirectory, progress: Progress) -> None:
    try:
        write_page([run.path], run.page)
    except ExtraError as error:
        progress.note(f"no report page: {error}")
    except Exception as error:
        progress.note(
            f"no report page: {type(error).__name__}: {error}; write it with: "
            f"python -m srch_dist.report {run.path}"
        )
