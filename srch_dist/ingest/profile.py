"""What is said of a modality once all of it was read: zero rows, duplicates, lengths of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

# Hashes of this many rows are sorted at once to find duplicates.
_SORTED_ROWS = 1 << 24
_TILE_ROWS = 1024


@dataclass
class Survey:
    """Counts over the rows read so far, and a file with a 64-bit hash of each row.

    Attributes
    ----------
    dims, dtype : of the modality. zero_rows : rows of zeros. shortest, longest : 2-norm of rows.
    invalid_rows : rows with NaN or Inf; a store has none.
    duplicates : rows whose values an earlier row has too; known at the end.
    """

    dims: int
    dtype: str
    zero_rows: int = 0
    shortest: float = np.inf
    longest: float = 0.0
    invalid_rows: int = 0
    duplicates: int = 0

    def add(self, block: NDArray[Any], start: int, hashes: Path) -> None:
        """Count the rows of ``block`` (m, d), which begin at row ``start``."""
        lengths = np.concatenate(
            [
                np.sqrt(np.square(block[tile : tile + _TILE_ROWS], dtype=np.float64).sum(axis=1))
                for tile in range(0, len(block), _TILE_ROWS)
            ]
        )
        self.zero_rows += int(np.count_nonzero(lengths == 0))
        self.shortest = min(self.shortest, float(lengths.min()))
        self.longest = max(self.longest, float(lengths.max()))
        digests = b"".join(
            # Adding 0 makes -0 the 0 that it equals.
            hashlib.blake2b(row, digest_size=8).digest()
            for row in np.ascontiguousarray(block + np.zeros(1, block.dtype))
        )
        with hashes.open("r+b" if hashes.exists() else "wb") as file:
            file.seek(8 * start)
            file.write(digests)

    def finish(self, hashes: Path) -> None:
        """Count duplicates from the file of hashes."""
        values = np.memmap(hashes, np.uint64, "r")
        runs = -(-len(values) // _SORTED_ROWS)
        distinct = sum(len(np.unique(values[values % runs == run])) for run in range(runs))
        self.duplicates = len(values) - distinct

    def state(self) -> dict[str, Any]:
        """Plain values, from which a `Survey` can be made again."""
        return asdict(self)


def survey_table(rows: int, surveys: Mapping[str, Survey], arrays: Mapping[str, str]) -> Table:
    """A row a modality."""
    table = Table(title=f"{rows} rows", box=box.SIMPLE, title_justify="left")
    for heading in ("modality", "from", "dims", "dtype"):
        table.add_column(heading)
    for heading in ("NaN or Inf", "zero rows", "duplicates", "length of a row"):
        table.add_column(heading, justify="right")
    for name, survey in surveys.items():
        table.add_row(
            *(name, arrays[name], str(survey.dims), survey.dtype, str(survey.invalid_rows)),
            *(str(survey.zero_rows), str(survey.duplicates)),
            f"{survey.shortest:.4g} – {survey.longest:.4g}",
        )
    return table
