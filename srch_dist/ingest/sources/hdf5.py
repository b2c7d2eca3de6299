"""HDF5 files as a source, and MATLAB v7.3 files, which are HDF5 with reversed axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import InputError, refusal, require
from srch_dist.ingest import limits
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.contents import TEXT, ListedSource
from srch_dist.kernels.types import Array

_PURPOSE = "an HDF5 or MATLAB v7.3 file"
# Exceptions that h5py raises for a damaged file.
_DAMAGE = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError),
    *(MemoryError, OverflowError, AttributeError, IndexError),
)


class Hdf5Source(ListedSource):
    """A `Source` of the datasets of an HDF5 file; a dataset in a group is named ``group.name``.

    No other file is opened: external links, external raw data and virtual datasets are not read.
    A dataset with chunks that were never written is unreadable, because HDF5 reads missing chunks
    as zeros.
    """

    # Prefix of objects that are no arrays of their own: the contents of MATLAB's cell arrays.
    _hidden: str | None = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._keys: dict[str, str] = {}
        self._fills: dict[str, list[float]] = {}
        with self._open() as file:
            for key, item in _members(file, self._hidden):
                name = key.replace("/", ".")
                with self.contents.describing(path, name):
                    if isinstance(item, Exception):
                        raise InputError(f"cannot be read: {item}. Write it again.")
                    try:
                        self._describe_member(name, key, item)
                    except _DAMAGE as error:
                        raise refusal(
                            InputError, f"cannot be read: {error}. Write it again.", error
                        ) from None
        self.contents.fold_sparse(
            path.stem,
            lambda _: "scipy.sparse.csr_matrix((data, indices, indptr), shape).toarray().",
        )

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the dataset ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        shape, _ = self.contents.specs[name]
        label = f"{self._path}: {name}"
        with self._open() as file:
            dataset = file[self._keys[name]]
            if not shape:
                yield np.asarray(dataset[()])
            for first in range(start, shape[0] if shape else 0, rows):
                block = self._read(dataset, name, first, min(first + rows, shape[0]))
                reasons.refuse_fill(label, self._fills.get(name, []), block, first)
                yield block

    def _describe_member(self, name: str, key: str, item: Any) -> None:
        h5py = require("h5py", "formats", _PURPOSE)
        if isinstance(item, h5py.Dataset):
            self._describe(name, key, item)
        else:
            line = (
                "in MATLAB, full(X); in Python, scipy.sparse.csc_matrix((data, ir, jc)).toarray()."
            )
            self.contents.refuse(name, reasons.sparse(line))

    def _describe(self, name: str, key: str, dataset: Any) -> None:
        h5py = require("h5py", "formats", _PURPOSE)
        dtype = dataset.dtype
        if dataset.shape is None:
            self.contents.skipped[name] = "empty"
        elif h5py.check_string_dtype(dtype) is not None:
            self._add(name, key, dataset, dataset.shape, TEXT)
        elif h5py.check_vlen_dtype(dtype) is not None:
            numbers = h5py.check_vlen_dtype(dtype).kind in "fiub"
            reason = "has rows of variable length. Save it as one array (rows, dimensions)."
            self.contents.refuse(name, reason, side_only=not numbers)
        elif dtype.hasobject:
            self.contents.skipped[name] = f"{dtype} is neither numbers nor text"
        elif dtype.subdtype is not None:
            base, inner = dtype.subdtype
            self._add(name, key, dataset, dataset.shape + inner, base)
        else:
            self._add(name, key, dataset, dataset.shape, dtype)

    def _add(
        self, name: str, key: str, dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        """Record the dataset at ``key`` as the array ``name`` of this ``shape`` and ``dtype``."""
        if not self.contents.add(name, shape, dtype):
            return
        self._keys[name] = key
        self._check_stored(name, dataset)
        if dtype.kind in "fiu":
            attributes = dict(dataset.attrs)
            if (packed := reasons.packed(attributes)) is not None:
                self.contents.refuse(name, packed, side_only=len(shape) != 2)
            self._fills[name] = reasons.fill_values(attributes)

    def _check_stored(self, name: str, dataset: Any) -> None:
        """Raise InputError if the file lacks a part of the dataset, or if chunks are too large."""
        if dataset.is_virtual or dataset.external:
            raise InputError(
                "is virtual or stored in other files, and no other file is opened. Save it as a "
                "dataset of its own: file.create_dataset(name, data=dataset[()])."
            )
        self._check_filters(dataset)
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = int(dataset.id.get_storage_size())
        if dataset.chunks is not None:
            limits.refuse_chunk(self._path, name, dataset.chunks, dataset.dtype.itemsize)
            axes = zip(dataset.shape, dataset.chunks, strict=True)
            wanted = math.prod(-(-length // step) for length, step in axes)
            found = _chunks_in(dataset) if size else wanted
            if found < wanted:
                missing = reasons.missing_chunks(wanted - found, wanted, dataset.fillvalue)
                raise InputError(f"{self._path}: {name} {missing}")
        elif stored < size:
            raise InputError(
                f"{self._path}: {name} {dataset.shape} of {dataset.dtype} has only {stored} of "
                f"{size} bytes in the file; the other bytes were never written and would read as "
                "zeros. Write the whole dataset."
            )
        limits.refuse_bomb(self._path, name, size, stored)

    def _check_filters(self, dataset: Any) -> None:
        """Raise InputError if the local HDF5 library lacks the dataset's compression filter."""
        h5py = require("h5py", "formats", _PURPOSE)
        properties = dataset.id.get_create_plist()
        for position in range(properties.get_nfilters()):
            code, _, _, label = properties.get_filter(position)
            if not h5py.h5z.filter_avail(code):
                raise InputError(
                    f"has the unknown compression filter {label.decode(errors='replace') or code}. "
                    "Save it with compression='gzip'."
                )

    def _read(self, dataset: Any, name: str, first: int, stop: int) -> Array:
        if self.contents.specs[name][1] == TEXT:
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
        except (MemoryError, OverflowError, AttributeError, IndexError) as error:
            raise InputError(f"{self._path} is damaged: {error}") from None
        except _DAMAGE as error:
            raise refusal(
                InputError, f"{self._path} cannot be read as HDF5: {error}", error
            ) from None


class MatlabHdf5Source(Hdf5Source):
    """A `Source` of a MATLAB v7.3 file.

    The reader reverses the axes, turns vectors (n, 1) and (1, n) into (n,), and decodes text.
    """

    _hidden = "#"

    def _describe(self, name: str, key: str, dataset: Any) -> None:
        attribute = dataset.attrs.get("MATLAB_class", b"")
        matlab_class = attribute.decode() if isinstance(attribute, bytes) else str(attribute)
        if dataset.shape is None or "MATLAB_empty" in dataset.attrs:
            self.contents.skipped[name] = "empty"
            return
        reversed_shape = dataset.shape[::-1]
        shape = vector_shape(reversed_shape)
        if matlab_class == "char" and len(reversed_shape) < 2:
            raise InputError(f"{self._path}: {name} is a char array of one axis, expected two.")
        if matlab_class == "char":
            # Letters lie along MATLAB's second axis, however many axes there are.
            self._add(name, key, dataset, reversed_shape[:1] + reversed_shape[2:], TEXT)
        elif matlab_class == "cell":
            texts = all(_is_text(dataset.file, reference) for reference in dataset[()].ravel())
            if texts and len(shape) == 1:
                self._add(name, key, dataset, shape, TEXT)
            else:
                self.contents.skipped[name] = "a cell array that is not a vector of texts"
        elif matlab_class == "logical":
            self._add(name, key, dataset, shape, np.dtype(bool))
        elif dataset.dtype.kind in "fiu":
            self._add(name, key, dataset, shape, dataset.dtype)
        else:
            self.contents.skipped[name] = (
                f"class {matlab_class or dataset.dtype} is neither numbers nor text"
            )

    def _read(self, dataset: Any, name: str, first: int, stop: int) -> Array:
        shape, dtype = self.contents.specs[name]
        if dtype != TEXT and len(shape) == 1:
            flat = dataset[()].ravel()[first:stop]
            return np.asarray(flat, dtype)
        if dtype != TEXT:
            return np.ascontiguousarray(dataset[..., first:stop].T).astype(dtype, copy=False)
        if dataset.attrs["MATLAB_class"] == b"char":
            letters = np.moveaxis(dataset[..., first:stop].T, 1, -1)
            rows = letters.reshape(-1, letters.shape[-1])
            return np.array([_decoded(row) for row in rows], TEXT).reshape(letters.shape[:-1])
        cells = dataset[()].ravel()[first:stop]
        return np.array([_cell_text(dataset.file[cell]) for cell in cells], TEXT)


def _members(file: Any, hidden: str | None) -> Iterator[tuple[str, Any]]:
    """Yield (key, dataset) in the order of the file, and (key, group) for MATLAB sparse matrices.

    Keys that start with ``hidden`` are left out. Each object is yielded once. Soft and external
    links are not followed. For an object that cannot be opened, the second item is the exception.
    """
    h5py = require("h5py", "formats", _PURPOSE)
    keys: list[str] = []
    file.visit(keys.append)
    sparse: set[str] = set()
    for key in keys:
        if (hidden and key.startswith(hidden)) or any(
            key.startswith(f"{group}/") for group in sparse
        ):
            continue
        try:
            item = file[key]
            is_sparse = isinstance(item, h5py.Group) and "MATLAB_sparse" in item.attrs
        except _DAMAGE as error:
            yield key, error
            continue
        if is_sparse:
            sparse.add(key)
        if is_sparse or isinstance(item, h5py.Dataset):
            yield key, item


def _chunks_in(dataset: Any) -> int:
    """Count the stored chunks inside the dataset's shape.

    A dataset that was shrunk can still store chunks outside its shape.
    """
    offsets: set[tuple[int, ...]] = set()

    def count(chunk: Any) -> None:
        inside = zip(chunk.chunk_offset, dataset.shape, strict=True)
        if chunk.size and all(offset < length for offset, length in inside):
            offsets.add(tuple(chunk.chunk_offset))

    dataset.id.chunk_iter(count)
    return len(offsets)


def vector_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (n,) for (n, 1) and (1, n), the shapes of MATLAB vectors; other shapes unchanged."""
    return (max(shape),) if len(shape) == 2 and 1 in shape else shape


def _is_text(file: Any, reference: Any) -> bool:
    return bool(reference) and file[reference].attrs.get("MATLAB_class", b"") == b"char"


def _cell_text(dataset: Any) -> str:
    return "" if "MATLAB_empty" in dataset.attrs else _decoded(dataset[()].T.ravel())


def _decoded(units: Array) -> str:
    """Decode m code units (m,) to text without the blanks that pad the rows of a char matrix.

    MATLAB writes UTF-16. Other programs write UTF-8 or UTF-32. The item size tells the encoding.
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
