"""`python -m srch_dist.ingest`: turn paired features into a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from srch_dist.cli import output, parse, run_command
from srch_dist.ingest.store import ingest_source
from srch_dist.progress import on_console


@dataclass(frozen=True)
class _Options:
    """Turn paired features (.npz) into a feature store: a Zarr array a modality, in row chunks."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """File with the features."""
    store: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """Folder of the store to make."""
    modalities: str | None = None
    """Arrays that are modalities, as a,b; all 2-D floating-point arrays when absent."""
    rows_per_chunk: int | None = None
    """Rows a chunk; about 32 MiB of the widest modality when absent."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Ingest with options from the command line."""
    run_command(lambda: _ingest(arguments))


def _ingest(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "ingest", arguments)
    names = None
    if options.modalities is not None:
        names = [name.strip() for name in options.modalities.split(",") if name.strip()]
    store = ingest_source(
        options.source, options.store, names, options.rows_per_chunk, on_console()
    )
    console = output()
    console.print(f"{store.rows} pairs in {store.path}", soft_wrap=True, highlight=False)
    for name, dims in store.modalities.items():
        console.print(f"  {name}: {dims} dimensions", highlight=False)
    console.print(f"  beside them: {', '.join(store.side) or 'nothing'}", highlight=False)


if __name__ == "__main__":
    main()
