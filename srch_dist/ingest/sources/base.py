"""What every source format offers the writer, and which format a path is read as."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from srch_dist.errors import InputError
from srch_dist.kernels.types import Array

Specs = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class Source(Protocol):
    """Named arrays of a file or folder, read in order, a block of rows at a time."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why, by name, for what the source holds and cannot be an array of a store."""

    def specs(self) -> Specs:
        """(shape, dtype) of every array by name, in the order of the source."""

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """The array from row ``start`` in runs of ``rows`` rows (fewer at the end), in order."""


# Module and class by the ending of a path; each module imports its library where it reads.
_FORMATS = {
    ".npz": ("npz", "NpzSource"),
    ".npy": ("npy", "NpySource"),
    ".mat": ("matlab", "open_matlab"),
    ".h5": ("hdf5", "Hdf5Source"),
    ".hdf5": ("hdf5", "Hdf5Source"),
    ".parquet": ("tables", "TableSource"),
    ".arrow": ("tables", "TableSource"),
    ".feather": ("tables", "TableSource"),
    ".zarr": ("zarr_group", "ZarrSource"),
}
TABLES = tuple(ending for ending, (module, _) in _FORMATS.items() if module == "tables")
# Endings of formats whose libraries a damaged file can crash; with Zarr, whose codecs take the
# memory that a chunk says it needs, they are read apart: see `srch_dist.ingest.sources.sandbox`.
_UNSAFE = (".mat", ".h5", ".hdf5", *TABLES)
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def open_source(path: str | Path | Sequence[str | Path]) -> Source:
    """Open a file or folder by the ending of its name, or several as one source.

    Raises
    ------
    InputError : nothing there, or a format that is not known.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(part) for part in path]
    try:
        opened: Source
        opened = _open(paths[0]) if len(paths) == 1 else _load("folder", "open_files")(paths)
        return opened
    except OSError as error:
        raise InputError(f"cannot read {error.filename or paths[0]}: {error.strerror}") from None


def open_here(path: Path, *shards: Path) -> Any:
    """Open a file or folder, or the shards of a table, whatever their library makes of them."""
    if shards:
        return _load("tables", "TableSource")([path, *shards])
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if is_zarr(path):
        return _load("zarr_group", "ZarrSource")(path)
    if path.is_dir():
        return _load("folder", "open_folder")(path)
    opener = _FORMATS.get(path.suffix.lower())
    if opener is None or opener[0] == "zarr_group":
        raise InputError(
            f"{path}: cannot tell its format from its name; known endings: {', '.join(_FORMATS)}, "
            "and folders of such files"
        )
    return _load(*opener)(path)


def _open(path: Path) -> Any:
    unsafe = is_zarr(path) or (path.is_file() and path.suffix.lower() in _UNSAFE)
    return _load("sandbox", "SandboxedSource")(path) if unsafe else open_here(path)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in _ZARR_FILES)


def is_known(path: Path) -> bool:
    """Whether a file has the ending of a format that is read."""
    return path.is_file() and path.suffix.lower() in _FORMATS


def recut(pieces: Iterator[Array], rows: int) -> Iterator[Array]:
    """Pieces of any length put together and cut into runs of ``rows`` rows."""
    held: list[Array] = []
    count = 0
    for piece in pieces:
        left = piece
        while len(left):
            taken = left[: rows - count]
            held.append(taken)
            count += len(taken)
            left = left[len(taken) :]
            if count == rows:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held, count = [], 0
    if held:
        yield held[0] if len(held) == 1 else np.concatenate(held)


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"srch_dist.ingest.sources.{module}"), name)
