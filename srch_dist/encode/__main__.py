"""`python -m srch_dist.encode`: encode every row of a store with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from srch_dist.cli.command import FLAT, print_line, run_command
from srch_dist.config.options import ClusterOptions
from srch_dist.encode.batch import check_modalities, encode_store
from srch_dist.encode.model import load_model
from srch_dist.runtime.cluster import connect_for
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.locations import locate
from srch_dist.storage.outputs import check_new
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Encode every row of one modality of a feature store with a trained model."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    data: str
    """Feature store to encode, a path or s3:// URL."""
    modality: str
    """Modality to encode; the store and the model must both have this modality."""
    out: str
    """Zarr array to write, a path or s3:// URL: uint8 (rows, bits / 8), little bit order. The array
    must not exist yet."""
    cluster: Annotated[ClusterOptions, FLAT] = field(default_factory=ClusterOptions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode with options from the command line."""
    run_command("encode", _Options, _encode, arguments)


def _encode(options: _Options, progress: Progress) -> None:
    # Refuse a wrong run, store, modality or output before a cluster starts.
    run, store = open_run(options.model), open_store(options.data)
    check_modalities(load_model(run.path), store, [options.modality])
    out = check_new(locate(options.out))
    reads, writes = (run.path, locate(store.path)), (out.parent,)
    with connect_for(options.cluster, progress, reads, writes):
        path = encode_store(options.model, options.data, options.modality, options.out, progress)
    print_line(f"codes: {path}")


if __name__ == "__main__":
    main()
