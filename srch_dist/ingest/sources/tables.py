"""Parquet and Arrow files as a source: a column of lists of d numbers is an array (n, d)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srch_dist.errors import InputError, require
from srch_dist.ingest import limits
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.base import rechunk
from srch_dist.ingest.sources.contents import TEXT, ListedSource, promoted
from srch_dist.ingest.sources.table_files import open_table, reading
from srch_dist.kernels.types import Array


class TableSource(ListedSource):
    """A `Source` of the columns of a table, in one file or in shards.

    Readable columns hold numbers, text, or lists of numbers of one length. Null text is read as
    empty text. A column's type may differ between shards: integers and floating-point numbers can
    mix, all types of text can mix, and all types of lists can mix. A column of type null has only
    missing values.

    Attributes
    ----------
    shard_rows : number of rows of each file.
    """

    def __init__(self, path: Path | Sequence[Path]) -> None:
        super().__init__()
        paths = [path] if isinstance(path, Path) else list(path)
        self._files = [open_table(each) for each in paths]
        self.shard_rows = [file.rows for file in self._files]
        self._label = paths[0] if len(paths) == 1 else paths[0].parent
        names = dict.fromkeys(name for file in self._files for name in file.kinds)
        for name in names:
            with self.contents.describing(self._label, name), reading(paths[0]):
                self._describe(name)
        if len(paths) > 1:
            listing = [file.name for file in paths]
            self.contents.joined = dict.fromkeys([*names], listing)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the column ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        return rechunk(self._pieces(name, start), rows)

    def _pieces(self, name: str, start: int) -> Iterator[Array]:
        shape, dtype = self.contents.specs[name]
        first = 0  # row number, in the table, of the file's first row
        for file in self._files:
            if first + file.rows > start:
                with reading(file.path):
                    for offset, column in file.columns(name, max(0, start - first)):
                        yield _to_numpy(file.path, name, column, shape, dtype, first + offset)
            first += file.rows

    def _describe(self, name: str) -> None:
        for file in self._files:
            if name in file.repeated:
                raise InputError(f"{file.path}: {name} is the name of two columns. Rename one.")
        column = self._merged(name)
        rows = sum(self.shard_rows)
        if column.form == "null":
            self.contents.refuse(name, reasons.NO_VALUES, side_only=True)
        elif column.form == "text":
            self.contents.add(name, (rows,), TEXT)
        elif column.form == "nested":
            raise InputError(
                f"{name} holds lists of lists ({column.kind}). Write each row as one flat list."
            )
        elif column.form == "other":
            self.contents.skipped[name] = f"{column.kind} is neither numbers nor text"
        else:
            assert column.dtype is not None
            if column.form == "numbers":
                self.contents.add(name, (rows,), column.dtype)
                self._refuse_missing(name, rows)
            else:
                self._describe_vectors(name, column.width, column.dtype, rows)
            self._refuse_bomb(name)

    def _merged(self, name: str) -> _Column:
        """Merge a column's types in all shards into one type; ignore shards without values."""
        filled = [file for file in self._files if file.rows] or self._files
        merged, first = _Column("null", "null"), filled[0]
        for file in filled:
            if name not in file.kinds:
                other = next(other for other in filled if name in other.kinds)
                raise InputError(
                    f"{name} is missing in {file.path.name}, but present in {other.path.name}. "
                    "Write the column in every shard."
                )
            column = _column(file.kinds[name])
            if merged.form == "null":
                merged, first = column, file
            elif column.form != "null":
                both = merged.merged(column)
                if both is None:
                    raise InputError(
                        f"{name} is {column.kind} in {file.path.name}, but {merged.kind} in "
                        f"{first.path.name}. Write all shards with the same type."
                    )
                merged = both
        return merged

    def _describe_vectors(
        self, name: str, width: int | None, dtype: np.dtype[Any], rows: int
    ) -> None:
        """Record a column of lists as an array (rows, length); refuse nulls and unequal lengths.

        The length is ``width``; if ``width`` is None, the most frequent length in the first piece.
        """
        side_only = dtype.kind != "f"
        typical = self._typical(name) if width is None else (0, width)
        if typical is None and rows:
            self.contents.refuse(name, reasons.NO_VALUES, side_only)
            return
        first_whole, length = typical or (0, 0)
        self.contents.add(name, (rows, length), dtype)
        first = 0
        for file in self._files:
            # Lists of integers are usually ids and not features, and often have unequal lengths.
            if dtype.kind != "f" or file.may_be_ragged(name, length):
                for offset, column in file.columns(name):
                    _refuse_irregular(column, length, first + offset, first_whole)
            first += file.rows

    def _typical(self, name: str) -> tuple[int, int] | None:
        """Find the most frequent list length in the first piece with lists.

        Returns (first row with that length, length).
        """
        first = 0
        for file in self._files:
            for offset, column in file.columns(name):
                lengths = _lengths(column)
                whole = lengths[lengths > 0]
                if len(whole):
                    length = Counter(whole.tolist()).most_common(1)[0][0]
                    return first + offset + int(np.argmax(lengths == length)), length
            first += file.rows
        return None

    def _refuse_missing(self, name: str, rows: int) -> None:
        pieces = (column for file in self._files for _, column in file.columns(name))
        missing = sum(column.null_count for column in pieces)
        if missing:
            raise InputError(f"{name} {reasons.missing_values(missing, rows)}")

    def _refuse_bomb(self, name: str) -> None:
        if name in self.contents.specs:
            shape, dtype = self.contents.specs[name]
            stored = sum(file.stored_bytes(name) for file in self._files)
            limits.refuse_bomb(self._label, name, math.prod(shape) * dtype.itemsize, stored)


class _Column(NamedTuple):
    """Type of a column.

    Attributes
    ----------
    form : "null", "numbers", "vectors", "nested", "text" or "other".
    kind : name of the Arrow type.
    dtype : dtype of the numbers; None for other forms.
    width : length of each vector if the Arrow type fixes it, else None.
    """

    form: str
    kind: str
    dtype: np.dtype[Any] | None = None
    width: int | None = None

    def merged(self, other: _Column) -> _Column | None:
        """Return a type that holds the values of both columns; None if no such type exists."""
        if self.form != other.form:
            return None
        if self.form in ("text", "other", "nested"):
            return self if self.form == "text" or self.kind == other.kind else None
        dtypes = [dtype for dtype in (self.dtype, other.dtype) if dtype is not None]
        dtype = promoted(dtypes)
        if dtype is None or (None not in (self.width, other.width) and self.width != other.width):
            return None
        return _Column(self.form, self.kind, dtype, self.width or other.width)


def _column(kind: Any) -> _Column:
    """Convert an Arrow type to a `_Column`."""
    pa = require("pyarrow", "formats", "a Parquet or Arrow file")
    plain, label = _plain(pa, kind), str(kind)
    if pa.types.is_null(plain):
        return _Column("null", label)
    if _is_text(pa, plain):
        return _Column("text", label)
    if _is_number(pa, plain):
        return _Column("numbers", label, _dtype(plain))
    if _is_list(pa, plain):
        width = plain.list_size if pa.types.is_fixed_size_list(plain) else None
        inner = _plain(pa, plain.value_type)
        if pa.types.is_null(inner):
            return _Column("null", label)
        if _is_number(pa, inner):
            return _Column("vectors", label, _dtype(inner), width)
        if _is_list(pa, inner) and _column(inner).form in ("vectors", "nested"):
            return _Column("nested", label)
    return _Column("other", label)


def _plain(pa: Any, kind: Any) -> Any:
    """Return the storage type of an extension or dictionary type; return other types unchanged."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(pa, kind.storage_type)
    return _plain(pa, kind.value_type) if pa.types.is_dictionary(kind) else kind


def _is_list(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_text(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_number(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _dtype(kind: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype


def _stored(column: Any) -> Any:
    """Convert a piece of a column from an extension or dictionary type to its storage type."""
    pa = require("pyarrow", "formats", "a Parquet or Arrow file")
    if isinstance(column, pa.ExtensionArray):
        return _stored(column.storage)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _lengths(column: Any) -> Array:
    """Return the list length (m,) of each of the m rows of a piece; -1 for null."""
    pa = require("pyarrow", "formats", "a Parquet or Arrow file")
    column = _stored(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), -1)
    if pa.types.is_fixed_size_list(column.type):
        lengths = np.full(len(column), column.type.list_size)
    else:
        lengths = np.diff(column.offsets.to_numpy()).astype(np.int64)
    lengths[_null_rows(column)] = -1
    return lengths


def _null_rows(column: Any) -> Array:
    """Return a boolean array (m,) that is True for each null among the m rows of a piece."""
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), bool)


def _refuse_irregular(column: Any, length: int, first: int, first_whole: int) -> None:
    """Raise InputError for a list of another length than ``length``, or for a null in a list.

    ``first`` is the row number of the piece's first row; row ``first_whole`` has the right length.
    """
    lengths = _lengths(column)
    irregular = np.flatnonzero(lengths != length)
    if len(irregular):
        row, found = first + int(irregular[0]), int(lengths[irregular[0]])
        if found < 0:
            raise InputError(reasons.missing_value(row))
        raise InputError(reasons.unequal_rows(row, found, length, first_whole))
    values = _stored(column).flatten()
    if values.null_count:
        raise InputError(reasons.missing_value(first + int(_null_rows(values).argmax()) // length))


def _to_numpy(
    path: Path, name: str, column: Any, shape: tuple[int, ...], dtype: np.dtype[Any], first: int
) -> Array:
    """Convert a piece of m rows, from row ``first`` on, to an array (m,) or (m, d)."""
    column = _stored(column)
    if dtype == TEXT:
        texts = ["" if value is None else value for value in column.to_pylist()]
        return np.array(texts, dtype=TEXT)
    if len(shape) == 1:
        if column.null_count:
            row = first + int(_null_rows(column).argmax())
            raise InputError(f"{path}: {name} {reasons.missing_value(row)}")
        return reasons.converted(np.asarray(column.to_numpy(zero_copy_only=False)), dtype)
    try:
        _refuse_irregular(column, shape[1], first, 0)
    except InputError as error:
        raise InputError(f"{path}: {name} {error}") from None
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
    return reasons.converted(flat, dtype).reshape(len(column), shape[1])
