"""HDF5 files as a source, and MATLAB v7.3 files, which are HDF5 with reversed axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import InputError, require
from srch_dist.ingest import limits
from srch_dist.ingest.sources.base import Specs
from srch_dist.kernels.types import Array

TEXT = np.dtypes.StringDType()
_PURPOSE = "an HDF5 or MATLAB v7.3 file"


class Hdf5Source:
    """A `Source` of the datasets of an HDF5 file, named ``group.name`` inside groups.

    Nothing outside the file is opened: external links, raw files and virtual datasets are skipped.
    A dataset with chunks that were never written is refused, because they would read as zeros.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, str] = {}
        self._specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self.skipped: dict[str, str] = {}
        with self._open() as file:
            for key in _dataset_names(file):
                self._describe(key, file[key])

    def specs(self) -> Specs:
        """(shape, dtype) of every readable dataset by name."""
        return dict(self._specs)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the dataset from row ``start`` in blocks of ``rows`` rows."""
        shape, _ = self._specs[name]
        with self._open() as file:
            dataset = file[self._keys[name]]
            if not shape:
                yield np.asarray(dataset[()])
            for first in range(start, shape[0] if shape else 0, rows):
                yield self._read(dataset, name, first, min(first + rows, shape[0]))

    def _describe(self, key: str, dataset: Any) -> None:
        name = key.replace("/", ".")
        h5py = require("h5py", "formats", _PURPOSE)
        dtype = dataset.dtype
        if dataset.shape is None or dataset.is_virtual or dataset.external:
            self.skipped[name] = "empty, virtual or stored outside the file"
        elif h5py.check_string_dtype(dtype) is not None:
            self._add(name, key, dataset, dataset.shape, TEXT)
        elif dtype.hasobject or dtype.kind not in "fiubc":
            self.skipped[name] = f"{dtype} is neither numbers nor text"
        else:
            self._add(name, key, dataset, dataset.shape, dtype)

    def _add(
        self, name: str, key: str, dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._check_stored(name, dataset)
        self._keys[name], self._specs[name] = key, (shape, dtype)

    def _check_stored(self, name: str, dataset: Any) -> None:
        """Refuse a dataset that is not all in the file, or has chunks too large for memory."""
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = int(dataset.id.get_storage_size())
        if dataset.chunks is not None:
            limits.refuse_chunk(self._path, name, dataset.chunks, dataset.dtype.itemsize)
            axes = zip(dataset.shape, dataset.chunks, strict=True)
            expected = math.prod(-(-length // step) for length, step in axes)
            incomplete = bool(size) and int(dataset.id.get_num_chunks()) != expected
        else:
            incomplete = stored < size
        if incomplete:
            raise InputError(
                f"{self._path}: {name} {dataset.shape} of {dataset.dtype} has only {stored} bytes "
                "in the file; the rest was never written and would read as zeros. Write all of it."
            )
        limits.refuse_bomb(self._path, name, size, stored)

    def _read(self, dataset: Any, name: str, first: int, stop: int) -> Array:
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
    """A `Source` of a MATLAB v7.3 file.

    Axes are reversed back, vectors (n, 1) and (1, n) become (n,), and text is decoded.
    """

    def _describe(self, key: str, dataset: Any) -> None:
        if key.startswith("#"):  # targets of the references in cell arrays
            return
        attribute = dataset.attrs.get("MATLAB_class", b"")
        matlab_class = attribute.decode() if isinstance(attribute, bytes) else str(attribute)
        name = key.replace("/", ".")
        if dataset.shape is None or "MATLAB_empty" in dataset.attrs:
            self.skipped[name] = "empty"
            return
        shape = vector_shape(dataset.shape[::-1])
        if matlab_class == "char":
            self._add(name, key, dataset, dataset.shape[:0:-1], TEXT)
        elif matlab_class == "cell":
            texts = all(_is_text(dataset.file, reference) for reference in dataset[()].ravel())
            if texts and len(shape) == 1:
                self._add(name, key, dataset, shape, TEXT)
            else:
                self.skipped[name] = "a cell array of other values than text"
        elif matlab_class == "logical":
            self._add(name, key, dataset, shape, np.dtype(bool))
        elif dataset.dtype.kind in "fiu":
            self._add(name, key, dataset, shape, dataset.dtype)
        else:
            self.skipped[name] = (
                f"class {matlab_class or dataset.dtype} is neither numbers nor text"
            )

    def _read(self, dataset: Any, name: str, first: int, stop: int) -> Array:
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
    """Datasets in the order of the file, each once; soft and external links are not followed."""
    h5py = require("h5py", "formats", _PURPOSE)
    names: list[str] = []

    def append(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    file.visititems(append)
    return names


def vector_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Map (n, 1) and (1, n) to (n,), because MATLAB has no vectors."""
    return (max(shape),) if len(shape) == 2 and 1 in shape else shape


def _is_text(file: Any, reference: Any) -> bool:
    return bool(reference) and file[reference].attrs.get("MATLAB_class", b"") == b"char"


def _cell_text(dataset: Any) -> str:
    return "" if "MATLAB_empty" in dataset.attrs else _decoded(dataset[()].T.ravel())


def _decoded(units: Array) -> str:
    """Decode code units (m,), and strip the blanks that pad a row of a char matrix.

    MATLAB writes UTF-16. Other programs write UTF-8 or UTF-32: the item size says which.
    """
    encodings = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}
    size = units.dtype.itemsize
    if units.dtype.kind != "u" or size not in encodings:
        raise ValueError(f"text has dtype {units.dtype}")
    little = units.astype(units.dtype.newbyteorder("<"))
    try:
        return little.tobytes().decode(encodings[size]).rstrip(" \0")
    except UnicodeDecodeError as error:
        raise ValueError(f"text is not {encodings[size]}: {error}") from None
