"""Count zero rows and duplicates, and measure row norms, while a modality is ingested."""

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
from srch_dist.storage.atomic_files import open_own

# Hashes per sort when duplicates are counted: 128 MiB.
_SORTED_ROWS = 1 << 24
# Rows per step when norms are computed in float64.
_TILE_ROWS = 1024


@dataclass
class DataProfile:
    """Statistics of the rows read so far from one modality.

    A separate file holds a 64-bit hash of each row. The store's journal saves the attributes under
    their names.

    Attributes
    ----------
    dims : number of dimensions d.
    dtype : name of the stored dtype.
    zero_rows : number of rows of zeros.
    shortest, longest : smallest and largest 2-norm of a row.
    invalid_rows : number of rows with NaN or Inf; always 0 in a finished store.
    duplicates : number of rows equal to an earlier row; `finish` counts them.
    """

    dims: int
    dtype: str
    zero_rows: int = 0
    shortest: float = np.inf
    longest: float = 0.0
    invalid_rows: int = 0
    duplicates: int = 0

    def add(self, block: Array, start: int, hashes: Path) -> None:
        """Count and measure the m rows of ``block`` (m, d); write their hashes to a file.

        Parameters
        ----------
        block : (m, d) rows of the modality.
        start : row number of the first row of ``block``.
        hashes : file of the hashes of all rows.
        """
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
            # Adding 0 turns -0 into 0, so that equal rows have equal hashes.
            hashlib.blake2b(row, digest_size=8).digest()
            for row in np.ascontiguousarray(block + np.zeros(1, block.dtype))
        )
        with open_own(hashes, "r+b" if hashes.exists() else "xb") as file:
            file.seek(8 * start)
            file.write(digests)

    def finish(self, hashes: Path) -> None:
        """Count duplicate rows from the file of hashes, with bounded memory."""
        values = np.memmap(hashes, np.uint64, "r")
        parts = -(-len(values) // _SORTED_ROWS)
        distinct = sum(len(np.unique(values[values % parts == part])) for part in range(parts))
        self.duplicates = len(values) - distinct

    def state(self) -> dict[str, Any]:
        """Return plain values for the journal; `DataProfile(**state)` restores the profile."""
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
