"""`python -m srch_dist.ingest`: convert paired features to a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from srch_dist.cli.command import print_line, run_command
from srch_dist.errors import ConfigError
from srch_dist.ingest.index_lists import parse_lists
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.runtime.progress import Progress


@dataclass(frozen=True)
class _Options:
    """Convert paired features to a feature store: one Zarr array per modality, in row chunks.

    Reads .npz, .npy, MATLAB .mat, HDF5, Parquet, Arrow and Zarr, and folders of such files, for
    example the output folder of clip-retrieval (img_emb, text_emb, metadata). Repeat the same
    command to resume an interrupted ingest.
    """

    paths: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="SOURCE [SOURCE ...] STORE", help_behavior_hint="(required)"),
    ]
    """Files or folders with features, paired row by row. The last path is the store to create."""
    modalities: str | None = None
    """Arrays to use as modalities, as a,b or image=a,text=b; by default every 2-D floating-point
    array. image=I_tr+I_te stacks the training rows I_tr (split 0) and the test rows I_te (split 1).
    image=XAll.T transposes an array (dimensions, rows)."""
    side: str | None = None
    """Arrays to store beside the modalities, as a,b or ids=a,titles=b; by default every other array
    with the same number of rows."""
    split_from: str | None = None
    """Make the array 'split' from arrays that list row numbers, for example
    query=param_te,train=param_tr. Rows in the list 'query' get 1, rows in the list 'train' or
    'database' get 0. Rows in no list get 2 (not used), or 0 if 'query' is the only list."""
    index_base: int | None = None
    """Number that the lists of --split-from use for the first row: 0, or 1 as in MATLAB. By default
    0. For .mat files, the default is 0 if a list contains 0, and 1 if a list contains the number of
    rows; otherwise, give this option."""
    rows_per_chunk: int | None = None
    """Number of rows in a chunk, the same for every array. By default, a chunk of the widest array
    has about 32 MiB."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Ingest with options from the command line."""
    run_command("ingest", _Options, _ingest, arguments)


def _ingest(options: _Options, progress: Progress) -> None:
    if len(options.paths) < 2:
        only = f"only the path {options.paths[0]}" if options.paths else "no path"
        raise ConfigError(f"the command has {only}. Give one SOURCE or more, then STORE.")
    *sources, folder = options.paths
    store = ingest_source(
        sources,
        folder,
        _names(options.modalities),
        options.rows_per_chunk,
        progress,
        _names(options.side),
        parse_lists(_names(options.split_from), options.index_base),
    )
    print_line(f"{store.rows} pairs in {store.path}")
    for name, dims in store.modalities.items():
        print_line(f"  {name}: {dims} dimensions")
    print_line(f"  side arrays: {', '.join(store.side) or 'none'}")


def _names(text: str | None) -> list[str] | None:
    """Split an option such as ``a,b`` into names; None if the option is not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
