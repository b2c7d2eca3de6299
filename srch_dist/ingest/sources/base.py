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

    Opening a source refuses a damaged file, but never because of one array.
    """

    @property
    def skipped(self) -> Mapping[str, str]:
        """What is neither numbers nor text: names, each with the reason."""

    @property
    def unreadable(self) -> Mapping[str, str]:
        """What looks like data but cannot be read whole or trusted.

        Names, each with the reason, which ends with what to do.
        """

    @property
    def side_only(self) -> Collection[str]:
        """Unreadable arrays that are no modality unless an option names them."""

    @property
    def joined(self) -> Mapping[str, Sequence[str]]:
        """For arrays in several files, the names of these files."""

    def specs(self) -> Specs:
        """(shape, dtype) of every readable array by name, in the order of the source."""

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start``, in order, in blocks of ``rows`` rows.

        The last block may be shorter. An array of shape () is one block.
        """


def rechunk(pieces: Iterator[Array], rows: int) -> Iterator[Array]:
    """Join pieces of any length, and split them into blocks of ``rows`` rows."""
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
