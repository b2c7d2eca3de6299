"""Tables of a page, and functions that format their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes
    ----------
    columns : headings of the columns.
    rows : lists of cells, one per row.
    numeric : index of the first right-aligned column; the columns after it are right-aligned too.
    best : indexes (group, column). In each column from ``column`` on, the largest value among rows
        with equal cells in column ``group`` is bold. If None, no cell is bold.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: int = 1
    best: tuple[int, int] | None = None

    def is_best(self, row: Sequence[str], column: int) -> bool:
        """Whether a cell is bold."""
        if self.best is None or column < self.best[1]:
            return False
        group = [other for other in self.rows if other[self.best[0]] == row[self.best[0]]]
        return len(group) > 1 and row[column] == max(other[column] for other in group)


def number(value: float | None) -> str:
    """Format a score with three decimals; None becomes a dash."""
    return "–" if value is None else f"{value:.3f}"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun, which gets an s unless the count is 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(nbytes: float) -> str:
    """Format a number of bytes in MiB or GiB."""
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:,.0f} MiB"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested options to texts by dotted name."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = "–" if value is None else str(value)
    return flat
