"""`python -m srch_dist.ingest`: turn paired features into a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from srch_dist.cli.command import output, parse, run_command
from srch_dist.cli.progress import on_console
from srch_dist.errors import ConfigError
from srch_dist.ingest.pipeline import ingest_source


@dataclass(frozen=True)
class _Options:
    """Turn paired features into a feature store: a Zarr array a modality, in row chunks.

    Reads .npz, .npy, MATLAB .mat, HDF5, Parquet, Arrow and Zarr, and folders of them as
    clip-retrieval writes them (img_emb, text_emb, metadata). What was interrupted goes on where
    it stopped when the same command is given again.
    """

    paths: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE [SOURCE ...] STORE")
    ]
    """File or folder with the features, or several that are paired, and last the folder of the
    store to make."""
    modalities: str | None = None
    """Arrays that are modalities, as a,b or image=a,text=b; all 2-D floating-point arrays when
    absent."""
    side: str | None = None
    """Arrays of as many rows to take along, as a,b or ids=a,titles=b; all others when absent."""
    rows_per_chunk: int | None = None
    """Rows a chunk; about 32 MiB of the widest modality when absent."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Ingest with options from the command line."""
    run_command(lambda: _ingest(arguments))


def _ingest(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "ingest", arguments)
    if len(options.paths) < 2:
        given = options.paths[0] if options.paths else "nothing"
        raise ConfigError(f"only {given} was given; give SOURCE, or several, and STORE")
    *sources, folder = options.paths
    store = ingest_source(
        sources,
        folder,
        _names(options.modalities),
        options.rows_per_chunk,
        on_console(),
        _names(options.side),
    )
    console = output()
    console.print(f"{store.rows} pairs in {store.path}", soft_wrap=True, highlight=False)
    for name, dims in store.modalities.items():
        console.print(f"  {name}: {dims} dimensions", highlight=False)
    console.print(f"  beside them: {', '.join(store.side) or 'nothing'}", highlight=False)


def _names(text: str | None) -> list[str] | None:
    """Names of an option such as ``a,b``; None where it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
