"""`python -m srch_dist.evaluate`: retrieval quality of a trained model on a store's queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srch_dist.cli.command import output, parse, run_command
from srch_dist.cli.console import print_evaluation
from srch_dist.cli.progress import on_console
from srch_dist.config.options import TlsConfig
from srch_dist.errors import StorageError
from srch_dist.evaluate.retrieval import evaluate_model, query_split
from srch_dist.runtime.cluster import ClusterRequirements, connect, tls_files
from srch_dist.storage.atomic_files import write_json
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.locations import locate
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Score a trained model: MAP where there are labels, recall of the true partner always."""

    model: str
    """Run directory of a finished run."""
    data: str
    """Feature store with the queries (split 1) and the database (split 0)."""
    json: str | None = None
    """File for the full result."""
    scheduler: str | None = None
    """Running Dask cluster: address of its scheduler (tcp:// or tls://) or scheduler file; the
    variable DASK_SCHEDULER_ADDRESS when absent; without either a local cluster is started."""
    workers: int | None = None
    """Worker processes of the local cluster; one a core when absent."""
    memory_limit: str = "2GiB"
    """Memory a worker of the local cluster."""
    tls: TlsConfig = field(default_factory=TlsConfig)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate with options from the command line."""
    run_command(lambda: _evaluate(arguments))


def _evaluate(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "evaluate", arguments)
    # What is wrong with these is said before a cluster is started.
    run, store = open_run(options.model), open_store(options.data)
    query_split(run, store)
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        raise StorageError(f"cannot write {options.json}: its folder does not exist")
    progress = on_console()
    demands = ClusterRequirements(reads=(run.path, locate(store.path)))
    tls = tls_files(options.tls)
    with connect(options.scheduler, options.workers, options.memory_limit, progress, demands, tls):
        result = evaluate_model(options.model, options.data, progress)
    if options.json is not None:
        try:
            write_json(Path(options.json), result)
        except OSError as error:
            raise StorageError(f"cannot write {options.json}: {error}") from None
    print_evaluation(output(), result)


if __name__ == "__main__":
    main()
