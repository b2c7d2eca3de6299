"""Write codes in the formats of other tools: check the request, lock the outputs, write, commit.

In every format, bit j of a code is bit j % 8 of byte j // 8 (NumPy's ``bitorder="little"``).
`numpy.unpackbits(codes, axis=1, bitorder="little")` restores the bits. Keys are row numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, get_args

from srch_dist.config.nearest import did_you_mean
from srch_dist.encode.provenance import check_store
from srch_dist.errors import ConfigError
from srch_dist.export.databases import write_lancedb, write_pgvector, write_sqlite_vec
from srch_dist.export.feeds import (
    elasticsearch_mapping,
    milvus_schema,
    schema_text,
    write_elasticsearch,
    write_milvus,
)
from srch_dist.export.indexes import record_recall, write_flat, write_ivf, write_usearch
from srch_dist.export.request import ExportRequest, Writer, choose_columns
from srch_dist.export.tables import write_datasets, write_npy, write_parquet, write_words
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage.atomic_files import is_stream, replacing, replacing_folder
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.disk_space import check_space
from srch_dist.storage.joined_stores import Columns
from srch_dist.storage.locations import local_path
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import check_file, check_new

Format = Literal[
    "faiss",
    "faiss-ivf",
    "usearch",
    "npy",
    "parquet",
    "parquet-uint64",
    "datasets",
    "pgvector",
    "sqlite-vec",
    "lancedb",
    "milvus",
    "elasticsearch",
]

_WRITERS: dict[str, Writer] = {
    "faiss": write_flat,
    "faiss-ivf": write_ivf,
    "usearch": write_usearch,
    "npy": write_npy,
    "parquet": write_parquet,
    "parquet-uint64": write_words,
    "datasets": write_datasets,
    "pgvector": write_pgvector,
    "sqlite-vec": write_sqlite_vec,
    "lancedb": write_lancedb,
    "milvus": write_milvus,
    "elasticsearch": write_elasticsearch,
}
_WITHOUT_COLUMNS = ("faiss", "faiss-ivf", "usearch", "npy")
_FOLDERS = ("lancedb",)
# Formats that write a second file, and the ending that its name adds.
_RECORDS = {"faiss-ivf": ".json", "milvus": ".schema.json", "elasticsearch": ".mapping.json"}


# More than six parameters, because the function is public and takes the command's options.
def export_codes(
    codes: CodeStore,
    out: str | Path,
    form: Format,
    store: Columns | None = None,
    lists: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write codes to a file in the format of another tool.

    The file appears only after all codes are on the disk. If ``out`` is a device or a pipe, it is
    written directly, without a second file.

    Parameters
    ----------
    codes : codes of n rows.
    out : file to create; with ``lancedb`` a folder.
    form : ``faiss``, an IndexBinaryFlat; ``faiss-ivf``, an IndexBinaryIVF, whose recall against
        exact search is measured and written to ``OUT.json``; ``usearch``, an index by Hamming
        distance; ``npy``, the packed codes (n, l / 8) uint8; ``parquet``, codes as binary;
        ``parquet-uint64``, codes as columns of 64 bits, for DuckDB; ``datasets``, Parquet with
        codes as lists, for Hugging Face datasets; ``pgvector``, an SQL script; ``sqlite-vec``, an
        SQLite database; ``lancedb``, a LanceDB database; ``milvus``, Parquet, with its schema in
        ``OUT.schema.json``; ``elasticsearch``, lines of the bulk API, with the mapping in
        ``OUT.mapping.json``.
    store : feature store that was encoded, or `JoinedStores` of all parts, whose side columns are
        written. The indexes and ``npy`` have no columns and use only its number of rows.
    lists : number of inverted lists of ``faiss-ivf``; None means about 4 √n.
    seed : seed that selects the codes that train the lists, and the queries that measure recall.
    progress : display of the progress; None shows nothing.
    columns : names of side columns to write; None means ids and titles, if the store has them.

    Returns
    -------
    Path of the file.

    Raises
    ------
    StorageError : ``out`` or its second file already exists, another process writes it, or it
        cannot be written.
    InputError : store and codes have different numbers of rows, or the target cannot hold a value.
    ConfigError : the format or a column is unknown, or ``lists`` is out of range.
    ExtraError : the library of the format is not installed.
    """
    progress = progress or silent()
    target = _check_target(out, form)
    request = _check_request(codes, form, store, (lists, seed), columns)
    _write(request, target, form, seed, progress)
    return target


def _write(
    request: ExportRequest, target: Path, form: Format, seed: int, progress: Progress
) -> None:
    """Write the codes of a checked request, and the second file if the format has one."""
    codes, stream = request.codes, is_stream(target)
    record = None if form not in _RECORDS or stream else Path(f"{target}{_RECORDS[form]}")
    with ExitStack() as stack:
        outputs = [target] if record is None else [target, record]
        check_locks = [_claim(stack, output) for output in outputs]
        if not stream:
            check_space(target, _least_bytes(codes, form), "the export")
        # The record's file is created first, so that it gets its name last.
        record_file = None if record is None else stack.enter_context(replacing(record))
        written = replacing_folder(target) if form in _FOLDERS else replacing(target)
        path = stack.enter_context(written)
        with progress.stage(f"export {form}", codes.rows) as stage:
            _WRITERS[form](request, path, stage)
        if form == "faiss-ivf":
            record_recall(codes, path, record_file, seed, progress)
        elif record_file is not None:
            describe = milvus_schema if form == "milvus" else elasticsearch_mapping
            record_file.write_text(schema_text(describe(request)), encoding="utf-8")
        for check_lock in check_locks:
            check_lock()


def _claim(stack: ExitStack, place: Path) -> Callable[[], None]:
    """Lock the new output ``place`` until ``stack`` closes.

    Returns a function that raises an error if the lock is lost.
    """
    check_lock = stack.enter_context(hold_output(place))
    check_new(place)
    return check_lock


def _check_target(out: str | Path, form: Format) -> Path:
    """Raise an error for an unknown format or an unusable output; else return it as a path."""
    if form not in get_args(Format):
        raise ConfigError(
            f"unknown format {form!r}; known formats: "
            f"{', '.join(get_args(Format))}{did_you_mean(str(form), get_args(Format))}"
        )
    target = local_path(out)
    if form in _FOLDERS and is_stream(target):
        raise ConfigError(f"{form} is a folder, and {target} is a device or a pipe; give a folder")
    if form not in _FOLDERS:
        check_file(target)
    check_new(target)
    return target


def _check_request(
    codes: CodeStore,
    form: Format,
    store: Columns | None,
    numbers: tuple[int | None, int],
    columns: Sequence[str] | None,
) -> ExportRequest:
    """Raise an error for options that `export_codes` cannot use; else return the request.

    ``numbers`` are ``lists`` and ``seed``.
    """
    lists, seed = numbers
    if store is not None:
        check_store(codes, store)
    if not 0 <= seed < 1 << 63:
        raise ConfigError(f"'seed' is {seed}, expected 0 to 2**63 - 1")
    if lists is not None and not 1 <= lists <= codes.rows:
        raise ConfigError(f"'lists' is {lists}, expected 1 to {codes.rows}, the number of rows")
    if form in _WITHOUT_COLUMNS and columns:
        raise ConfigError(f"{form} holds codes and row numbers alone, not columns")
    chosen = () if form in _WITHOUT_COLUMNS else choose_columns(store, columns)
    return ExportRequest(codes, store, chosen, lists, seed)


def _least_bytes(codes: CodeStore, form: Format) -> int:
    """Compute a lower bound of the file's bytes: the codes, and 8 bytes per row number."""
    keyed = form in ("faiss-ivf", "usearch")
    return codes.rows * (codes.bits // 8 + (8 if keyed else 0))
