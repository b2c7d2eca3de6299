"""`python -m srch_dist.encode`: encode every row of one modality with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

from srch_dist.cli.command import FLAT, print_line, run_command
from srch_dist.config.options import ClusterOptions
from srch_dist.encode.batch import encode_store, open_rows
from srch_dist.encode.model import load_model
from srch_dist.runtime.cluster import connect_for
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import locate
from srch_dist.storage.outputs import check_new
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Encode every row of one modality with a trained model. The other modality is not needed."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    data: str
    """What to encode: a feature store (a path or s3:// URL), or a file or folder with the rows of
    one modality that ingest can read, such as an .npy or Parquet file."""
    modality: str
    """Modality to encode the rows as; the model must have it."""
    out: str
    """Zarr array to write, a path or s3:// URL: uint8 (rows, bits / 8), little bit order. It must
    not exist yet."""
    array: str | None = None
    """Array or column of a file or folder to encode. By default it has the modality's name, or is
    the only one of the right width."""
    cluster: Annotated[ClusterOptions, FLAT] = field(default_factory=ClusterOptions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode with options from the command line."""
    run_command("encode", _Options, _encode, arguments)


def _encode(options: _Options, progress: Progress) -> None:
    # Refuse a wrong run, input, modality or output before a cluster starts.
    run = open_run(options.model)
    rows = open_rows(options.data, load_model(run.path), options.modality, options.array)
    out = check_new(locate(options.out))
    with ExitStack() as stack:
        if isinstance(rows, FeatureStore):
            reads, writes = (run.path, locate(rows.path)), (out.parent,)
            stack.enter_context(connect_for(options.cluster, progress, reads, writes))
        path = encode_store(
            options.model, options.data, options.modality, options.out, progress, options.array
        )
    print_line(f"codes: {path}")


if __name__ == "__main__":
    main()
