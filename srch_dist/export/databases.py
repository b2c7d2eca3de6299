"""Write codes for databases that search bits themselves: pgvector, sqlite-vec and LanceDB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from srch_dist.errors import ConfigError, InputError, require
from srch_dist.export.request import ExportRequest, byte_lists, check_names, json_texts
from srch_dist.kernels.types import Packed
from srch_dist.runtime.progress import ProgressStage

# Name of the table in every database.
_TABLE = "codes"
# Columns of a vec0 table that are neither keys nor vectors, per kind.
_VEC0_COLUMNS = 16

_PG_HEAD = """\
-- Codes of srch-dist for PostgreSQL with pgvector. Run: psql -v ON_ERROR_STOP=1 -f FILE
-- Bit j of a code is character j of its bit string. Nearest codes of B'...':
--   SELECT "row", code <~> B'...' AS distance FROM codes ORDER BY distance, "row" LIMIT 10;
-- Exact until you add an approximate index:
--   CREATE INDEX ON codes USING hnsw (code bit_hamming_ops);
BEGIN;
CREATE EXTENSION IF NOT EXISTS vector;
"""
_COPY_SIGNS = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def write_pgvector(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write an SQL script that creates and fills a table with a column ``code bit(l)``."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number, table in enumerate(request.batches(_bit_text)):
            if number == 0:
                file.write(_PG_HEAD + _pg_table(table.schema, request.codes.bits))
            columns = [_pg_texts(table, name) for name in table.column_names]
            file.writelines("\t".join(row) + "\n" for row in zip(*columns, strict=True))
            stage.advance(len(table))
        file.write("\\.\nCOMMIT;\n")


def write_sqlite_vec(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write an SQLite database with a table of sqlite-vec: ``code bit[l]``, keys ``row``."""
    apsw = require("apsw", "sqlite", "a database of sqlite-vec")
    sqlite_vec = require("sqlite_vec", "sqlite", "a database of sqlite-vec")
    check_names(request.columns, "sqlite-vec")
    if len(request.columns) > _VEC0_COLUMNS:
        raise ConfigError(f"sqlite-vec allows {_VEC0_COLUMNS} columns, not {len(request.columns)}")
    connection = apsw.Connection(str(path))
    try:
        # A killed export leaves no file under its name, so no rollback journal is needed.
        connection.execute("PRAGMA journal_mode = off")
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        insert = ""
        with connection:
            for table in request.batches(lambda pa, run: {"code": _binary(pa, run)}):
                if not insert:
                    insert = _create_vec0(connection, table.schema, request.codes.bits)
                columns = [_sqlite_values(table, name) for name in table.column_names]
                connection.executemany(insert, zip(*columns, strict=True))
                stage.advance(len(table))
        ((found,),) = connection.execute(f"SELECT count(*) FROM {_TABLE}")
    except (apsw.FullError, apsw.IOError) as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()
    if found != request.rows:
        raise OSError(f"it has {found} rows, expected {request.rows}")


def write_lancedb(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write the folder of a LanceDB database with a table ``codes``."""
    os.environ.setdefault("LANCE_LOG", "error")  # read on import; it warns of every new table
    lancedb = require("lancedb", "lancedb", "a LanceDB database")
    batches = request.batches(lambda pa, run: {"code": byte_lists(pa, run)})
    first = next(batches)

    def rows() -> Iterator[Any]:
        yield from first.to_batches()
        stage.advance(len(first))
        for table in batches:
            yield from table.to_batches()
            stage.advance(len(table))

    try:
        table = lancedb.connect(str(path)).create_table(_TABLE, rows(), schema=first.schema)
        found = table.count_rows()
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[0]) from None
    if found != request.rows:
        raise OSError(f"it has {found} rows, expected {request.rows}")


def _bit_text(pa: ModuleType, run: Packed) -> dict[str, Any]:
    """Return the codes as texts of 0 and 1, bit j at character j."""
    signs = np.unpackbits(run, axis=1, bitorder="little") + np.uint8(ord("0"))
    return {"code": pa.array(signs.view(f"S{signs.shape[1]}")[:, 0]).cast(pa.string())}


def _binary(pa: ModuleType, run: Packed) -> Any:
    kind = pa.binary(run.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(run), [None, pa.py_buffer(run)])


def _pg_table(schema: Any, bits: int) -> str:
    kinds = [(field.name, _pg_type(str(field.type))) for field in schema if field.name != "code"]
    columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds)
    key = columns.replace('"row" bigint', '"row" bigint PRIMARY KEY', 1)
    names = ", ".join(f'"{name}"' for name in schema.names)
    return (
        f"CREATE TABLE {_TABLE} ({key}, code bit({bits}) NOT NULL);\n"
        f"COPY {_TABLE} ({names}) FROM stdin;\n"
    )


def _pg_type(kind: str) -> str:
    """Return the type of PostgreSQL for a type of Arrow."""
    if kind in ("float", "double", "halffloat"):
        return "double precision"
    if kind.startswith(("int", "uint")):
        return "numeric(20)" if kind == "uint64" else "bigint"
    return {"bool": "boolean", "string": "text"}.get(kind, "jsonb")


def _pg_texts(table: Any, name: str) -> list[str]:
    """Return the values of a column as COPY reads them."""
    column = table[name]
    nested = str(column.type).startswith("list")
    texts = json_texts(table, name) if nested else [str(value) for value in column.to_pylist()]
    for row, text in zip(table["row"].to_pylist(), texts, strict=True):
        if "\0" in text:
            raise InputError(
                f"row {row} of {name} is {text!r}; PostgreSQL cannot hold its NUL character. Leave "
                "the column out with --columns."
            )
    return [text.translate(_COPY_SIGNS) for text in texts]


def _create_vec0(connection: Any, schema: Any, bits: int) -> str:
    """Create the virtual table, and return the statement that inserts a row."""
    columns = ["row integer primary key", f"code bit[{bits}]"]
    for field in schema:
        if field.name not in ("row", "code"):
            columns.append(_vec0_column(field.name, str(field.type)))
    connection.execute(f"CREATE VIRTUAL TABLE {_TABLE} USING vec0({', '.join(columns)})")
    marks = ", ".join("vec_bit(?)" if name == "code" else "?" for name in schema.names)
    return f"INSERT INTO {_TABLE} ({', '.join(schema.names)}) VALUES ({marks})"


def _vec0_column(name: str, kind: str) -> str:
    """Declare a side column: numbers and booleans filter a search; texts are stored beside it."""
    if kind == "bool":
        return f"{name} boolean"
    if kind in ("float", "double", "halffloat"):
        return f"{name} float"
    if kind.startswith(("int", "uint")) and kind != "uint64":
        return f"{name} integer"
    if kind == "string":
        return f"{name} text"
    return f"+{name} text"


def _sqlite_values(table: Any, name: str) -> list[Any]:
    """Return the values of a column as vec0 holds them; lists as JSON, 64 unsigned bits as text."""
    kind = str(table[name].type)
    if kind.startswith("list"):
        return json_texts(table, name)
    values: list[Any] = table[name].to_pylist()
    return [str(value) for value in values] if kind == "uint64" else values
