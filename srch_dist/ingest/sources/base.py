"""The interface of every source format: named arrays, streamed in blocks of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from srch_dist.kernels.types import Array

# (shape, dtype) of arrays by name.
Specs = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class Source(Protocol):
    """Named arrays of a file or folder, streamed in blocks of rows.

    Opening a source raises InputError for a damaged file. A single bad array is listed in
    `unreadable` and raises no error.
    """

    @property
    def skipped(self) -> Mapping[str, str]:
        """Reason by name, for each entry of the source with other data than numbers or text."""

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Reason by name, for each array that cannot be read completely or cannot be trusted.

        A reason ends with a remedy for the user.
        """

    @property
    def side_only(self) -> Collection[str]:
        """Names of the unreadable arrays that would not be modalities by default.

        Only 2-D floating-point arrays are modalities by default.
        """

    @property
    def joined(self) -> Mapping[str, Sequence[str]]:
        """File names by array name, for each array that is stored in several files."""

    def specs(self) -> Specs:
        """Return (shape, dtype) of every readable array by name, in the order of the source."""

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in order, in blocks of ``rows`` rows.

        The last block may be shorter. An array of shape () is one block.
        """


def rechunk(pieces: Iterator[Array], rows: int) -> Iterator[Array]:
    """Concatenate pieces of any number of rows, and yield them in blocks of ``rows`` rows."""
    pending: list[Array] = []
    count = 0
    for piece in pieces:
        rest = piece
        while len(rest):
            head = rest[: rows - count]
            pending.append(head)
            count += len(head)
            rest = rest[len(head) :]
            if count == rows:
                yield pending[0] if len(pending) == 1 else np.concatenate(pending)
                pending, count = [], 0
    if pending:
        yield pending[0] if len(pending) == 1 else np.concatenate(pending)
