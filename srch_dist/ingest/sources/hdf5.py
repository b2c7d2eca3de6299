"""HDF5 files, and MATLAB's v7.3 files, which are HDF5 with the axes the other way round."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError, require
from srch_dist.ingest import limits

TEXT = np.dtypes.StringDType()
_PURPOSE = "an HDF5 or MATLAB v7.3 file"


class Hdf5Source:
    """The datasets of an HDF5 file, those in groups as ``group.name``.

    Nothing outside the file is opened: external links, raw files and virtual datasets are left
    out. A dataset with chunks that were never written is refused: they would read as zeros.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, str] = {}
        self._specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self.left_out: dict[str, str] = {}
        with self._open() as file:
            for place in _dataset_names(file):
                self._describe(place, file[place])

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every dataset that can be an array, by name."""
        return dict(self._specs)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The dataset from row ``start`` in runs of ``rows`` rows."""
        shape, _ = self._specs[name]
        with self._open() as file:
            dataset = file[self._places[name]]
            if not shape:
                yield np.asarray(dataset[()])
            for first in range(start, shape[0] if shape else 0, rows):
                yield self._read(dataset, name, first, min(first + rows, shape[0]))

    def _describe(self, place: str, dataset: Any) -> None:
        name = place.replace("/", ".")
        h5py = require("h5py", "formats", _PURPOSE)
        kind = dataset.dtype
        if dataset.shape is None or dataset.is_virtual or dataset.external:
            self.left_out[name] = "it is empty, virtual or outside the file"
        elif h5py.check_string_dtype(kind) is not None:
            self._add(name, place, dataset, dataset.shape, TEXT)
        elif kind.hasobject or kind.kind not in "fiubc":
            self.left_out[name] = f"it is {kind}, neither numbers nor text"
        else:
            self._add(name, place, dataset, dataset.shape, kind)

    def _add(
        self, name: str, place: str, dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._check_stored(name, dataset)
        self._places[name], self._specs[name] = place, (shape, dtype)

    def _check_stored(self, name: str, dataset: Any) -> None:
        """Refuse what is not wholly in the file, or would not fit in memory chunk by chunk."""
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = int(dataset.id.get_storage_size())
        if dataset.chunks is not None:
            limits.refuse_chunk(self._path, name, dataset.chunks, dataset.dtype.itemsize)
            cuts = zip(dataset.shape, dataset.chunks, strict=True)
            wanted = math.prod(-(-rows // step) for rows, step in cuts)
            found = int(dataset.id.get_num_chunks()) if size else 0
            lost = wanted - found if size else 0
        else:
            lost = int(stored < size)
        if lost:
            raise InputError(
                f"{self._path}: {name} {dataset.shape} of {dataset.dtype} has only {stored} bytes "
                "in the file; the rest was never written"
            )
        limits.refuse_bomb(self._path, name, size, stored)

    def _read(self, dataset: Any, name: str, first: int, stop: int) -> NDArray[Any]:
        if self._specs[name][1] == TEXT:
            return np.array(dataset.asstr(errors="strict")[first:stop], TEXT)
        return np.asarray(dataset[first:stop])

    @contextmanager
    def _open(self) -> Iterator[Any]:
        h5py = require("h5py", "formats", _PURPOSE)
        try:
            with h5py.File(self._path, "r") as file:
                yield file
        except InputError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._path} cannot be read as HDF5: {error}") from None
        except (MemoryError, OverflowError, AttributeError) as error:
            raise InputError(f"{self._path} is damaged: {error}") from None


class MatlabHdf5Source(Hdf5Source):
    """A MATLAB v7.3 file: axes reversed, vectors (n, 1) and (1, n) as (n,), text decoded."""

    def _describe(self, place: str, dataset: Any) -> None:
        if place.startswith("#"):  # what cells refer to
            return
        kind = dataset.attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        name = place.replace("/", ".")
        if dataset.shape is None or "MATLAB_empty" in dataset.attrs:
            self.left_out[name] = "it is empty"
            return
        shape = _without_ones(dataset.shape[::-1])
        if kind == "char":
            self._add(name, place, dataset, dataset.shape[:0:-1], TEXT)
        elif kind == "cell":
            texts = all(_is_text(dataset.file, reference) for reference in dataset[()].ravel())
            if texts and len(shape) == 1:
                self._add(name, place, dataset, shape, TEXT)
            else:
                self.left_out[name] = "it is a cell array of something else than text"
        elif kind == "logical":
            self._add(name, place, dataset, shape, np.dtype(bool))
        elif dataset.dtype.kind in "fiu":
            self._add(name, place, dataset, shape, dataset.dtype)
        else:
            self.left_out[name] = (
                f"it is of class {kind or dataset.dtype}, neither numbers nor text"
            )

    def _read(self, dataset: Any, name: str, first: int, stop: int) -> NDArray[Any]:
        shape, dtype = self._specs[name]
        if len(shape) == 1 and dtype != TEXT:
            flat = dataset[()].ravel()[first:stop]
            return np.asarray(flat, dtype)
        if dtype != TEXT:
            return np.ascontiguousarray(dataset[..., first:stop].T).astype(dtype, copy=False)
        if dataset.attrs["MATLAB_class"] == b"char":
            return np.array([_decoded(row) for row in dataset[:, first:stop].T], TEXT)
        cells = dataset[()].ravel()[first:stop]
        return np.array([_cell_text(dataset.file[cell]) for cell in cells], TEXT)


def _dataset_names(file: Any) -> list[str]:
    """Datasets of a file in its order, through hard links alone, each visited once."""
    h5py = require("h5py", "formats", _PURPOSE)
    names: list[str] = []

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    file.visititems(keep)
    return names


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """MATLAB has no vectors: (n, 1) and (1, n) are (n,)."""
    if len(shape) == 2 and 1 in shape:
        return (max(shape),)
    return shape


def _is_text(file: Any, reference: Any) -> bool:
    return bool(reference) and file[reference].attrs.get("MATLAB_class", b"") == b"char"


def _cell_text(dataset: Any) -> str:
    return "" if "MATLAB_empty" in dataset.attrs else _decoded(dataset[()].T.ravel())


def _decoded(units: NDArray[Any]) -> str:
    """Text of code units; the blanks that fill a row of a char matrix are taken off.

    MATLAB writes UTF-16; other programs write UTF-8 or UTF-32 where the units are so wide.
    """
    encodings = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}
    size = units.dtype.itemsize
    if units.dtype.kind != "u" or size not in encodings:
        raise ValueError(f"text of {units.dtype}")
    little = units.astype(units.dtype.newbyteorder("<"))
    try:
        return little.tobytes().decode(encodings[size]).rstrip(" \0")
    except UnicodeDecodeError as error:
        raise ValueError(f"text that is not {encodings[size]}: {error}") from None
