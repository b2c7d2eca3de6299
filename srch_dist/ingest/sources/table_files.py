"""Parquet and Arrow files: read the schema, and read one column in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srch_dist.errors import InputError, refusal, require

BATCH_ROWS = 4096


class ParquetTable:
    """A Parquet file, memory-mapped, read in batches of rows."""

    def __init__(self, path: Path) -> None:
        parquet = require("pyarrow.parquet", "formats", "a Parquet file")
        self.path, self._file = (
            path,
            parquet.ParquetFile(path, memory_map=True, page_checksum_verification=True),
        )
        schema = self._file.schema_arrow
        self.kinds = dict(zip(schema.names, schema.types, strict=True))
        self.repeated = repeated_names(schema.names)
        self.rows = int(self._file.metadata.num_rows)

    def stored_bytes(self, name: str) -> int:
        """Return the compressed size in bytes of a column and of the columns nested in it."""
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

    def may_be_ragged(self, name: str, width: int) -> bool:
        """Whether the column ``name`` may have nulls or lists of another length than ``width``."""
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for position in range(row_group.num_columns):
                leaf = row_group.column(position)
                if not leaf.path_in_schema.startswith(f"{name}."):
                    continue
                statistics = leaf.statistics
                nulls = statistics.null_count if statistics is not None else None
                if nulls != 0 or leaf.num_values != width * row_group.num_rows:
                    return True
        return False

    def columns(self, name: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield (first row number, piece) of the column ``name`` from row ``start`` on."""
        metadata, first = self._file.metadata, 0
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        skipped = 0
        while skipped < len(counts) and first + counts[skipped] <= start:
            first += counts[skipped]
            skipped += 1
        groups = list(range(skipped, len(counts)))
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=groups, columns=[name]):
            if batch.num_columns != 1:
                raise InputError(
                    f"{self.path}: two columns are named {name!r}. Rename one of them."
                )
            column = batch.column(0)
            if first + len(column) > start:
                offset = max(0, start - first)
                yield first + offset, column.slice(offset)
            first += len(column)


class ArrowTable:
    """An Arrow file, or a stream that `datasets` writes; memory-mapped, validated on read."""

    def __init__(self, path: Path) -> None:
        self._pa = require("pyarrow", "formats", "an Arrow file")
        self.path = path
        parts = list(self._sizes())
        schema = parts[0][0]
        self.rows = sum(rows for _, rows in parts)
        self.kinds = dict(zip(schema.names, schema.types, strict=True))
        self.repeated = repeated_names(schema.names)

    def stored_bytes(self, name: str) -> int:  # noqa: ARG002
        """Return the size of the file in bytes, an upper bound of the column's size."""
        return self.path.stat().st_size

    def may_be_ragged(self, name: str, width: int) -> bool:  # noqa: ARG002
        """Return True, because Arrow metadata do not state the lengths of lists."""
        return True

    def columns(self, name: str, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield (first row number, piece) of the column ``name`` from row ``start`` on."""
        first = 0
        for _, batch in self._batches():
            if batch is None:
                continue
            if first + batch.num_rows > start:
                column = batch.column(name)
                column.validate(full=True)
                for offset in range(max(0, start - first), len(column), BATCH_ROWS):
                    yield first + offset, column.slice(offset, BATCH_ROWS)
            first += batch.num_rows

    def _sizes(self) -> Iterator[tuple[Any, int]]:
        """Yield (schema, 0), then (schema, row count) for each batch; a file may have no batch."""
        for schema, batch in self._batches():
            yield schema, 0 if batch is None else batch.num_rows

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        """Yield (schema, None), then (schema, batch) for each batch; a file may have no batch."""
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


def open_table(path: Path) -> ParquetTable | ArrowTable:
    """Open a Parquet or Arrow file; the file ending selects the format."""
    with reading(path):
        return ParquetTable(path) if path.suffix.lower() == ".parquet" else ArrowTable(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert to InputError the exceptions that pyarrow raises for a damaged file."""
    pa = require("pyarrow", "formats", "a Parquet or Arrow file")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, UnicodeError) as error:
        raise refusal(InputError, f"{path} cannot be read as a table: {error}", error) from None
    except (OverflowError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def repeated_names(names: list[str]) -> list[str]:
    """List the names that occur more than once."""
    return sorted({name for name in names if names.count(name) > 1})
