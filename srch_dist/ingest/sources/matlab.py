"""MATLAB .mat files: v7.3 through HDF5, older ones through SciPy, one variable at a time."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from srch_dist.errors import InputError
from srch_dist.ingest import limits
from srch_dist.ingest.sources.hdf5 import TEXT, Hdf5Source, MatlabHdf5Source
from srch_dist.ingest.sources.matlab_validate import check_elements

_HDF5 = b"\x89HDF\r\n\x1a\n"
_CLASSES = {
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "double": "float64",
    "single": "float32",
    "logical": "bool",
}
# What SciPy raises on damaged files.
_DAMAGE = (
    MatReadError,
    *(ValueError, TypeError, OSError, EOFError, KeyError, IndexError, AttributeError),
    *(NotImplementedError, RuntimeError, ArithmeticError, MemoryError, zlib.error, AssertionError),
    NameError,  # of a matrix of an unknown class in a cell
)


def open_matlab(path: Path) -> MatlabV5Source | Hdf5Source:
    """Open a .mat file of any version; which one is told by its first bytes.

    A v7.3 file whose arrays bear no MATLAB class was written by another program in its own
    order of axes, and is read as plain HDF5.
    """
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    if head[:8] == _HDF5 or head[512:520] == _HDF5:
        return MatlabHdf5Source(path) if head[:6] == b"MATLAB" else Hdf5Source(path)
    return MatlabV5Source(path)


class MatlabV5Source:
    """Variables of a .mat file of version 4 to 7; see `srch_dist.ingest.sources.base.Source`.

    SciPy reads a variable whole, so those above 1 GiB are refused. Vectors (n, 1) and (1, n) are
    (n,); char matrices and cells of texts are text; structs, sparse and others are left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: tuple[str, NDArray[Any]] | None = None
        self._specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self.left_out: dict[str, str] = {}
        try:
            check_elements(path)
            for name, shape, kind in scipy.io.whosmat(path):
                self._describe(name, shape, kind)
        except _DAMAGE as error:
            raise InputError(f"{path} is not a readable .mat file: {error}") from None

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every variable that can be an array."""
        return dict(self._specs)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The variable from row ``start`` in runs of ``rows`` rows."""
        shape, dtype = self._specs[name]
        values = self._load(name)
        if values.shape != shape or values.dtype != dtype:
            raise InputError(
                f"{self._path}: {name} is {values.shape} of {values.dtype}, its header says "
                f"{shape} of {dtype}"
            )
        for first in range(start, shape[0], rows):
            yield np.ascontiguousarray(values[first : first + rows])

    def _describe(self, name: str, shape: tuple[int, ...], kind: str) -> None:
        if any(size < 0 for size in shape):
            raise InputError(f"{self._path}: {name} has shape {shape}")
        if kind in _CLASSES:
            dtype = np.dtype(_CLASSES[kind])
            size = math.prod(shape) * dtype.itemsize
            if size > limits.WHOLE_BYTES:
                raise InputError(
                    f"{self._path}: {name} takes {size} bytes, of this format at most "
                    f"{limits.WHOLE_BYTES} are read; save it with -v7.3"
                )
            self._specs[name] = (_vector(shape), dtype)
        elif kind in ("char", "cell") and (texts := _as_texts(self._variable(name))) is not None:
            self._specs[name] = (texts.shape, TEXT)
        else:
            self.left_out[name] = f"it is of class {kind}, neither numbers nor text"

    def _load(self, name: str) -> NDArray[Any]:
        """The variable, kept until another one is asked for."""
        if self._held is None or self._held[0] != name:
            self._held = None
            try:
                found = self._variable(name)
                values = _as_texts(found)
                if values is None:  # version 4 keeps the byte order of the machine that wrote it
                    native = found.astype(found.dtype.newbyteorder("="), copy=False)
                    values = native.reshape(_vector(found.shape))
            except _DAMAGE as error:
                raise InputError(f"{self._path}: {name} cannot be read: {error}") from None
            self._held = name, values
        return self._held[1]

    def _variable(self, name: str) -> NDArray[Any]:
        values = scipy.io.loadmat(self._path, variable_names=[name], mat_dtype=True)[name]
        if not isinstance(values, np.ndarray):
            raise ValueError(f"it is a {type(values).__name__}")
        return values


def _vector(shape: tuple[int, ...]) -> tuple[int, ...]:
    """MATLAB has no vectors: (n, 1) and (1, n) are (n,)."""
    return (max(shape),) if len(shape) == 2 and 1 in shape else shape


def _as_texts(values: NDArray[Any]) -> NDArray[Any] | None:
    """Texts (n,) of a char matrix or a cell vector of texts; None for anything else."""
    items = values.ravel()
    if values.dtype.kind == "O" and len(items) == max(values.shape, default=0):
        if not all(isinstance(item, np.ndarray) and item.dtype.kind == "U" for item in items):
            return None
        items = np.array(["".join(item.ravel().tolist()) for item in items], TEXT)
    elif values.dtype.kind != "U":
        return None
    return np.array([str(item).rstrip(" ") for item in items], TEXT)
