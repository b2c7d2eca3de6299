"""Parquet and Arrow files as a source: a column of equal-length lists is one array (n, d)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import InputError, require
from srch_dist.ingest import limits
from srch_dist.ingest.sources.base import Specs, rechunk
from srch_dist.kernels.types import Array

TEXT = np.dtypes.StringDType()
_BATCH_ROWS = 4096
_FILL_OR_REMOVE = "Fill it, or remove the row from every modality."


class TableSource:
    """A `Source` of the columns of a table, in one file or in shards.

    Arrays are columns of numbers, of text, and of number lists of one length. Missing text reads as
    empty text. Columns of numbers with missing values, and columns of other types, are skipped.

    Attributes
    ----------
    shard_rows : rows of each file.
    """

    def __init__(self, path: Path | Sequence[Path]) -> None:
        paths = [path] if isinstance(path, Path) else list(path)
        self._files = [_open_table(each) for each in paths]
        self.skipped: dict[str, str] = {}
        self._specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        with _reading(paths[0]):
            for file in self._files[1:]:
                if file.kinds != self._files[0].kinds:
                    raise InputError(
                        f"{file.path} has columns {file.kinds}, but {paths[0]} has "
                        f"{self._files[0].kinds}. Shards of one table need the same columns."
                    )
            self.shard_rows = [file.rows for file in self._files]
            for name in self._files[0].kinds:
                self._describe(name)

    def specs(self) -> Specs:
        """(shape, dtype) of every readable column by name."""
        return dict(self._specs)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the column from row ``start`` in blocks of ``rows`` rows."""
        return rechunk(self._pieces(name, start), rows)

    def _pieces(self, name: str, start: int) -> Iterator[Array]:
        shape, dtype = self._specs[name]
        first = 0  # row of the table at which the file starts
        for file in self._files:
            if first + file.rows > start:
                with _reading(file.path):
                    for offset, column in file.columns(name, max(0, start - first)):
                        yield _to_numpy(file.path, name, column, shape, dtype, first + offset)
            first += file.rows

    def _describe(self, name: str) -> None:
        pa = require("pyarrow", "formats", "a Parquet or Arrow file")
        kind = _plain(pa, self._files[0].kinds[name])
        rows = sum(self.shard_rows)
        if pa.types.is_fixed_size_list(kind) and _is_number(pa, kind.value_type):
            self._specs[name] = ((rows, kind.list_size), _dtype(kind.value_type))
        elif _is_list(pa, kind) and _is_number(pa, kind.value_type):
            self._specs[name] = ((rows, self._first_length(name)), _dtype(kind.value_type))
        elif _is_text(pa, kind):
            self._specs[name] = ((rows,), TEXT)
        elif _is_number(pa, kind):
            missing = sum(
                column.null_count for file in self._files for _, column in file.columns(name)
            )
            if missing:
                self.skipped[name] = f"{missing} of {rows} values are missing"
            else:
                self._specs[name] = ((rows,), _dtype(kind))
        else:
            self.skipped[name] = f"{kind} is neither numbers nor text"
        if name in self._specs and self._specs[name][1] != TEXT:
            shape, dtype = self._specs[name]
            stored = sum(file.stored_bytes(name) for file in self._files)
            expanded = math.prod(shape) * dtype.itemsize
            limits.refuse_bomb(self._files[0].path, name, expanded, stored)

    def _first_length(self, name: str) -> int:
        for file in self._files:
            for _, column in file.columns(name):
                if len(column):
                    return 0 if column[0].as_py() is None else len(column[0])
        return 0


class _ParquetTable:
    """A Parquet file, memory-mapped, read in batches of rows."""

    def __init__(self, path: Path) -> None:
        parquet = require("pyarrow.parquet", "formats", "a Parquet file")
        self.path, self._file = path, parquet.ParquetFile(path, memory_map=True)
        self.kinds = dict(
            zip(self._file.schema_arrow.names, self._file.schema_arrow.types, strict=True)
        )
        self.rows = int(self._file.metadata.num_rows)

    def stored_bytes(self, name: str) -> int:
        """Compressed bytes of a column, nested leaves included."""
        metadata, total = self._file.metadata, 0
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            leaves = [row_group.column(leaf) for leaf in range(row_group.num_columns)]
            total += sum(
                leaf.total_compressed_size
                for leaf in leaves
                if leaf.path_in_schema == name or leaf.path_in_schema.startswith(f"{name}.")
            )
        return int(total)

    def columns(self, name: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield pieces of a column from row ``start``, each with its first row."""
        metadata, first = self._file.metadata, 0
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        skipped = 0
        while skipped < len(counts) and first + counts[skipped] <= start:
            first += counts[skipped]
            skipped += 1
        groups = list(range(skipped, len(counts)))
        for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=[name]):
            if batch.num_columns != 1:
                raise InputError(
                    f"{self.path}: two columns are named {name!r}. Rename one of them."
                )
            column = batch.column(0)
            if first + len(column) > start:
                offset = max(0, start - first)
                yield first + offset, column.slice(offset)
            first += len(column)


class _ArrowTable:
    """An Arrow file, or a stream as `datasets` writes it; mapped, and validated when read."""

    def __init__(self, path: Path) -> None:
        self._pa = require("pyarrow", "formats", "an Arrow file")
        self.path = path
        parts = list(self._sizes())
        schema = parts[0][0]
        self.rows = sum(rows for _, rows in parts)
        self.kinds = dict(zip(schema.names, schema.types, strict=True))
        if len(self.kinds) != len(schema.names):
            raise InputError(
                f"{path}: column names are not unique: {', '.join(schema.names)}. Rename the "
                "duplicates."
            )

    def stored_bytes(self, name: str) -> int:  # noqa: ARG002
        """Bytes of the file, an upper bound of those of a column."""
        return self.path.stat().st_size

    def columns(self, name: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield pieces of a column from row ``start``, each with its first row."""
        first = 0
        for _, batch in self._batches():
            if batch is None:
                continue
            if first + batch.num_rows > start:
                column = batch.column(name)
                column.validate(full=True)
                for offset in range(max(0, start - first), len(column), _BATCH_ROWS):
                    yield first + offset, column.slice(offset, _BATCH_ROWS)
            first += batch.num_rows

    def _sizes(self) -> Iterator[tuple[Any, int]]:
        """Yield (schema, rows) of every batch."""
        for schema, batch in self._batches():
            yield schema, 0 if batch is None else batch.num_rows

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        """Yield (schema, None), then (schema, batch) of every batch."""
        with self._pa.memory_map(str(self.path), "r") as file:
            head = file.read(6)
            file.seek(0)
            if head == b"ARROW1":
                reader = self._pa.ipc.open_file(file)
                yield reader.schema, None
                for batch in range(reader.num_record_batches):
                    yield reader.schema, reader.get_batch(batch)
            else:
                stream = self._pa.ipc.open_stream(file)
                yield stream.schema, None
                for batch in stream:
                    yield stream.schema, batch


def _open_table(path: Path) -> _ParquetTable | _ArrowTable:
    with _reading(path):
        return _ParquetTable(path) if path.suffix.lower() == ".parquet" else _ArrowTable(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into InputErrors."""
    pa = require("pyarrow", "formats", "a Parquet or Arrow file")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    except (OverflowError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def _plain(pa: Any, kind: Any) -> Any:
    """The type that an extension or dictionary type stores."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(pa, kind.storage_type)
    return _plain(pa, kind.value_type) if pa.types.is_dictionary(kind) else kind


def _is_list(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _dtype(kind: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype


def _to_numpy(
    path: Path, name: str, column: Any, shape: tuple[int, ...], dtype: np.dtype[Any], first: int
) -> Array:
    """Convert a piece of a column, whose first row is ``first``, to (m,) or (m, d)."""
    pa = require("pyarrow", "formats", "a Parquet or Arrow file")
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if dtype == TEXT:
        texts = ["" if value is None else value for value in column.to_pylist()]
        return np.array(texts, dtype=TEXT)
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{path}: {name} row {row}: missing value. {_FILL_OR_REMOVE}")
    if len(shape) == 1:
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype)
    if not pa.types.is_fixed_size_list(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        unequal = np.flatnonzero(lengths != shape[1])
        if len(unequal):
            raise InputError(
                f"{path}: {name} row {first + int(unequal[0])}: {lengths[unequal[0]]} values, "
                f"expected {shape[1]} as in row 0. Give every row the same number of values."
            )
    values = column.flatten()
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // shape[1]
        raise InputError(f"{path}: {name} row {first + row}: missing value. {_FILL_OR_REMOVE}")
    flat = np.asarray(values.to_numpy(zero_copy_only=False), dtype)
    return flat.reshape(len(column), shape[1])
