"""Data profile of a modality, collected while it streams: zero rows, duplicates, row norms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from srch_dist.kernels.types import Array

# Hashes sorted at once when duplicates are counted: 128 MiB.
_SORTED_ROWS = 1 << 24
# Rows squared at once in float64.
_TILE_ROWS = 1024


@dataclass
class DataProfile:
    """Counts over the rows of a modality so far; a file holds a 64-bit hash of each row.

    The attributes are also the keys under which the store's journal keeps the profile.

    Attributes
    ----------
    dims : dimensions d.
    dtype : name of the stored dtype.
    zero_rows : rows of zeros.
    shortest, longest : smallest and largest 2-norm of a row.
    invalid_rows : rows with NaN or Inf; always 0 in a store.
    duplicates : rows equal to an earlier row; counted by `finish`.
    """

    dims: int
    dtype: str
    zero_rows: int = 0
    shortest: float = np.inf
    longest: float = 0.0
    invalid_rows: int = 0
    duplicates: int = 0

    def add(self, block: Array, start: int, hashes: Path) -> None:
        """Count the rows of ``block`` (m, d), whose first row is ``start``, and hash them."""
        norms = np.concatenate(
            [
                np.sqrt(np.square(block[tile : tile + _TILE_ROWS], dtype=np.float64).sum(axis=1))
                for tile in range(0, len(block), _TILE_ROWS)
            ]
        )
        self.zero_rows += int(np.count_nonzero(norms == 0))
        self.shortest = min(self.shortest, float(norms.min()))
        self.longest = max(self.longest, float(norms.max()))
        digests = b"".join(
            # Adding 0 turns -0 into 0, its equal.
            hashlib.blake2b(row, digest_size=8).digest()
            for row in np.ascontiguousarray(block + np.zeros(1, block.dtype))
        )
        with hashes.open("r+b" if hashes.exists() else "wb") as file:
            file.seek(8 * start)
            file.write(digests)

    def finish(self, hashes: Path) -> None:
        """Count duplicates from the file of hashes, a part of the hash values at a time."""
        values = np.memmap(hashes, np.uint64, "r")
        parts = -(-len(values) // _SORTED_ROWS)
        distinct = sum(len(np.unique(values[values % parts == part])) for part in range(parts))
        self.duplicates = len(values) - distinct

    def state(self) -> dict[str, Any]:
        """Plain values for the journal; `DataProfile(**state)` restores the profile."""
        return asdict(self)


def profile_table(
    rows: int, profiles: Mapping[str, DataProfile], sources: Mapping[str, str]
) -> Table:
    """Format the profiles for display, one row per modality.

    Parameters
    ----------
    rows : number of rows.
    profiles : profile of each modality.
    sources : name of each modality's array in the source.
    """
    table = Table(title=f"{rows} rows", box=box.SIMPLE, title_justify="left")
    for heading in ("modality", "array", "dims", "dtype"):
        table.add_column(heading)
    for heading in ("NaN/Inf rows", "zero rows", "duplicates", "row norm"):
        table.add_column(heading, justify="right")
    for name, profile in profiles.items():
        table.add_row(
            *(name, sources[name], str(profile.dims), profile.dtype, str(profile.invalid_rows)),
            *(str(profile.zero_rows), str(profile.duplicates)),
            f"{profile.shortest:.4g} – {profile.longest:.4g}",
        )
    return table
