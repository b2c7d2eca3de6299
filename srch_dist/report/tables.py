"""Tables of a page, and values as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Cells as text; columns from ``numeric`` on are set to the right.

    Attributes
    ----------
    best : (group, column): of the rows that are alike in column ``group``, the largest value of
        each column from ``column`` on is set bold; None sets none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: int = 1
    best: tuple[int, int] | None = None

    def is_best(self, row: Sequence[str], column: int) -> bool:
        """Whether a cell is to be set bold."""
        if self.best is None or column < self.best[1]:
            return False
        group = [other for other in self.rows if other[self.best[0]] == row[self.best[0]]]
        return len(group) > 1 and row[column] == max(other[column] for other in group)


def number(value: float | None) -> str:
    """A share with three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def counted(count: int, thing: str) -> str:
    """A number of things."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested options as text by dotted name."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = "–" if value is None else str(value)
    return found
