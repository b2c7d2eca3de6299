"""`python -m srch_dist.export`: codes and indexes for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srch_dist.cli.command import output, parse, run_command
from srch_dist.cli.progress import on_console
from srch_dist.export.formats import Format, export_codes
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.feature_store import open_store


@dataclass(frozen=True)
class _Options:
    """Write codes as other tools read them; bit j of a code is bit j % 8 of byte j // 8."""

    codes: str
    """Codes made by srch_dist.encode, or exported to .npy."""
    format: Format
    """A faiss binary index (flat or inverted file), a usearch index, packed .npy, or Parquet."""
    out: str
    """File to write."""
    data: str | None = None
    """Feature store that was encoded; its ids and titles go into Parquet."""
    lists: int | None = None
    """Lists of faiss-ivf; about 4 times the root of the rows when absent."""
    seed: int = 0
    """Seed of the rows that the lists are learned from and recall is measured on."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Export with options from the command line."""
    run_command(lambda: _export(arguments))


def _export(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "export", arguments)
    store = None if options.data is None else open_store(options.data)
    path = export_codes(
        open_codes(options.codes),
        options.out,
        options.format,
        store,
        options.lists,
        options.seed,
        on_console(),
    )
    output().print(f"{options.format}: {path}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
