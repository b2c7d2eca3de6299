"""`python -m srch_dist.evaluate`: measure the retrieval quality of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

from srch_dist.cli.command import FLAT, output, run_command
from srch_dist.cli.console import print_evaluation
from srch_dist.config.options import ClusterOptions
from srch_dist.evaluate.retrieval import evaluate_model, query_split
from srch_dist.runtime.cluster import connect_for
from srch_dist.runtime.progress import Progress
from srch_dist.storage.atomic_files import write_json
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.locations import local_path, locate
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import check_file, json_kind
from srch_dist.storage.run.open import open_run

_RESULT = json_kind("evaluation result", "queries", "database", "bits", "pair_recall")


@dataclass(frozen=True)
class _Options:
    """Score a trained model: MAP if the store has labels, and recall of the true partner."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    data: str
    """Feature store to retrieve from, a path or s3:// URL. In its array 'split', 1 is a query, 0 is
    the database. Without that array, the rows that the run held out are the queries."""
    json: str | None = None
    """JSON file to write, with all measures; the printed table has only some of them."""
    cluster: Annotated[ClusterOptions, FLAT] = field(default_factory=ClusterOptions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate with options from the command line."""
    run_command("evaluate", _Options, _evaluate, arguments)


def _evaluate(options: _Options, progress: Progress) -> None:
    # Refuse a wrong run, store or output before a cluster starts.
    run, store = open_run(options.model), open_store(options.data)
    query_split(run, store)
    out = None if options.json is None else check_file(local_path(options.json), _RESULT)
    with ExitStack() as stack:
        check_lock = None if out is None else stack.enter_context(hold_output(out))
        with connect_for(options.cluster, progress, reads=(run.path, locate(store.path))):
            result = evaluate_model(options.model, options.data, progress)
        # Print first, so that the scores are seen even if the file cannot be written.
        print_evaluation(output(), result)
        if out is not None and check_lock is not None:
            check_lock()
            write_json(out, result)


if __name__ == "__main__":
    main()
