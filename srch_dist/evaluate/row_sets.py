"""Sets of row numbers: database and queries of an evaluation, and bitmaps of many rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srch_dist.kernels.types import IntArray, Packed


@dataclass(frozen=True)
class Split:
    """Row numbers of the database and row numbers of the queries, each ascending."""

    database: IntArray
    queries: IntArray


@dataclass(frozen=True)
class RowBitmap:
    """Ascending row numbers, stored as a bitmap from the first to the last.

    The task graph contains the row numbers of the whole database. As int64, they would need 8 bytes
    per row.

    Attributes
    ----------
    first : the smallest row number.
    bits : packed bits, one for each number from ``first`` on: whether the row is in the set.
    """

    first: int
    bits: Packed

    @classmethod
    def of(cls, rows: IntArray) -> RowBitmap:
        """Make the bitmap of one or more ascending row numbers."""
        selected = np.zeros(rows[-1] - rows[0] + 1, dtype=np.bool_)
        selected[rows - rows[0]] = True
        return cls(int(rows[0]), np.packbits(selected))

    @property
    def rows(self) -> IntArray:
        """Row numbers, ascending."""
        return self.first + np.flatnonzero(np.unpackbits(self.bits))


# Queries are few and may be far apart: a bitmap would be larger than their row numbers.
RowSet = IntArray | RowBitmap


def rows_of(row_set: RowSet) -> IntArray:
    """Return the row numbers of a set, ascending."""
    return row_set.rows if isinstance(row_set, RowBitmap) else row_set


def cut_rows(rows: IntArray, step: int) -> list[IntArray]:
    """Cut row numbers into blocks of ``step`` rows."""
    return [rows[start : start + step] for start in range(0, len(rows), step)]
