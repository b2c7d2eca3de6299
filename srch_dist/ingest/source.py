"""What every source format offers the writer, and which format a path is read as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.ingest.npz import NpzSource

Specs = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class Source(Protocol):
    """Named arrays of a file or folder, read in order, a block of rows at a time."""

    def specs(self) -> Specs:
        """(shape, dtype) of every array by name, in the order of the source."""

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        """The array in runs of ``rows`` rows (fewer at the end), in order."""


# One entry a format: the ending of its paths, and what opens it.
_FORMATS: dict[str, Callable[[Path], Source]] = {".npz": NpzSource}


def open_source(path: str | Path) -> Source:
    """Open a source by the ending of its name.

    Raises
    ------
    InputError : nothing there, or a format that is not known.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    opener = _FORMATS.get(path.suffix.lower())
    if opener is None:
        known = ", ".join(_FORMATS)
        raise InputError(f"{path}: cannot tell its format from its name; known endings: {known}")
    return opener(path)
