"""`python -m srch_dist.export`: write codes and indexes for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srch_dist.cli.command import print_line, run_command
from srch_dist.export.append import append_index
from srch_dist.export.formats import Format, export_codes
from srch_dist.runtime.progress import Progress
from srch_dist.storage.atomic_files import is_stream
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.joined_stores import Columns, JoinedStores


@dataclass(frozen=True)
class _Options:
    """Write codes in the format of another tool. Bit j of a code is bit j % 8 of byte j // 8."""

    codes: str
    """Codes to export: an array that srch_dist.encode wrote, or a .npy file of packed codes."""
    format: Format
    """faiss: exact binary index. faiss-ivf: inverted file, faster for many rows. usearch: index.
    npy: packed codes. parquet: table of row numbers and codes. parquet-uint64: codes in columns of
    64 bits, for DuckDB and others. datasets: Parquet for Hugging Face datasets. pgvector: SQL
    script for psql. sqlite-vec: SQLite database. lancedb: folder of a database. milvus,
    elasticsearch: file to import, with its schema in a second file."""
    out: str
    """File to write, with lancedb a folder. It must not exist yet. A second file is also new:
    faiss-ivf writes its recall to OUT.json, milvus OUT.schema.json, elasticsearch
    OUT.mapping.json."""
    data: str | None = None
    """Feature store that was encoded. Adds columns of it to tables and databases. Codes with
    appended rows: the stores of all parts in order, separated by commas."""
    columns: str | None = None
    """Side columns of --data to write, for example ids,url; by default ids and titles."""
    append: bool = False
    """Add the rows that --codes gained to the index --out, which exists: faiss, faiss-ivf and
    usearch."""
    lists: int | None = None
    """faiss-ivf: number of inverted lists (clusters of codes); by default about 4 × sqrt(rows). The
    export measures the recall for several numbers of lists searched per query."""
    seed: int = 0
    """faiss-ivf: seed that selects rows to train the lists, and queries to measure the recall."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Export with options from the command line."""
    run_command("export", _Options, _export, arguments)


def _export(options: _Options, progress: Progress) -> None:
    if options.append:
        added = append_index(
            open_codes(options.codes), options.out, options.format, options.seed, progress
        )
        print_line(f"{options.format}: {options.out} added={added}")
        return
    store: Columns | None = None
    if options.data is not None:
        stores = [open_store(path) for path in options.data.split(",")]
        store = stores[0] if len(stores) == 1 else JoinedStores(stores)
    path = export_codes(
        open_codes(options.codes),
        options.out,
        options.format,
        store,
        options.lists,
        options.seed,
        progress,
        None if options.columns is None else options.columns.split(","),
    )
    # The export itself may have gone to standard output.
    if not is_stream(path):
        print_line(f"{options.format}: {path}")


if __name__ == "__main__":
    main()
