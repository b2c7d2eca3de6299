"""`python -m srch_dist.encode`: codes of every row of a store, by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from srch_dist.cli.command import output, parse, run_command
from srch_dist.cli.progress import on_console
from srch_dist.config.options import TlsConfig
from srch_dist.encode.batch import encode_store
from srch_dist.runtime.cluster import ClusterRequirements, connect, tls_files
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.locations import locate
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Encode one modality of a feature store with a trained model."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    data: str
    """Feature store to encode, a path or s3:// URL."""
    modality: str
    """Which of the store's modalities."""
    out: str
    """Where the codes go: a Zarr array, uint8 (rows, bits / 8), little bit order;
    a path or s3:// URL."""
    scheduler: str | None = None
    """Running Dask cluster: address of its scheduler (tcp:// or tls://) or scheduler file; the
    variable DASK_SCHEDULER_ADDRESS when absent; without either a local cluster is started."""
    workers: int | None = None
    """Worker processes of the local cluster; one a core when absent."""
    memory_limit: str = "2GiB"
    """Memory a worker of the local cluster."""
    tls: TlsConfig = field(default_factory=TlsConfig)


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode with options from the command line."""
    run_command(lambda: _encode(arguments))


def _encode(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "encode", arguments)
    # What is wrong with these is said before a cluster is started.
    run, store = open_run(options.model), open_store(options.data)
    progress = on_console()
    folder = locate(options.out).parent
    demands = ClusterRequirements(reads=(run.path, locate(store.path)), writes=(folder,))
    tls = tls_files(options.tls)
    with connect(options.scheduler, options.workers, options.memory_limit, progress, demands, tls):
        path = encode_store(options.model, options.data, options.modality, options.out, progress)
    output().print(f"codes: {path}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
