"""MATLAB .mat files as a source: h5py reads v7.3, SciPy reads older versions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from srch_dist.errors import InputError, refusal
from srch_dist.ingest import limits
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.contents import TEXT, ListedSource
from srch_dist.ingest.sources.hdf5 import Hdf5Source, MatlabHdf5Source, vector_shape
from srch_dist.ingest.sources.matlab_validate import StoredVariable, check_elements
from srch_dist.kernels.types import Array

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Stored dtype of each MATLAB class.
_DTYPES = {
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "double": "float64",
    "single": "float32",
    "logical": "bool",
}
# Exceptions that SciPy raises for a damaged file.
_DAMAGE = (
    MatReadError,
    *(ValueError, TypeError, OSError, EOFError, KeyError, IndexError, AttributeError),
    *(NotImplementedError, RuntimeError, ArithmeticError, MemoryError, zlib.error, AssertionError),
    NameError,  # a cell that holds an array of an unknown class
)


def open_matlab(path: Path) -> MatlabV5Source | Hdf5Source:
    """Open a .mat file of any version; its first bytes identify the version.

    An HDF5 file without MATLAB's header comes from another program, which does not reverse the
    axes. Such a file is read as plain HDF5.
    """
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise refusal(InputError, f"cannot read {path}: {error}", error) from None
    if head[:8] == _HDF5_SIGNATURE or head[512:520] == _HDF5_SIGNATURE:
        return MatlabHdf5Source(path) if head[:6] == b"MATLAB" else Hdf5Source(path)
    return MatlabV5Source(path)


class MatlabV5Source(ListedSource):
    """A `Source` of the variables of a .mat file of version 4 to 7.

    SciPy reads only whole variables, so variables above 1 GiB are unreadable. Vectors (n, 1) and
    (1, n) become (n,). Char matrices and cell vectors of text become text (n,). Structs and
    other classes are skipped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._loaded: tuple[str, Array] | None = None
        try:
            stored = check_elements(path)
            variables = scipy.io.whosmat(path)
            if len(stored) != len(variables):  # SciPy and `check_elements` disagree
                raise ValueError(f"{len(stored)} variables, expected {len(variables)}")
            for (name, shape, kind), element in zip(variables, stored, strict=True):
                with self.contents.describing(path, name):
                    self._describe(name, shape, kind, element)
        except _DAMAGE as error:
            raise refusal(
                InputError, f"{path} is not a readable .mat file: {error}", error
            ) from None

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the variable ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        shape, dtype = self.contents.specs[name]
        values = self._load(name)
        if values.shape != shape or values.dtype != dtype:
            raise InputError(
                f"{self._path}: {name} has shape {values.shape} of {values.dtype}, but its header "
                f"says {shape} of {dtype}"
            )
        for first in range(start, shape[0], rows):
            yield np.ascontiguousarray(values[first : first + rows])

    def _describe(
        self, name: str, shape: tuple[int, ...], kind: str, element: StoredVariable
    ) -> None:
        if any(size < 0 for size in shape):
            raise InputError(f"{self._path}: {name} has a negative size in its shape {shape}")
        if element.sparse:
            line = "in MATLAB, full(X); in Python, loadmat(...)[name].toarray()."
            self.contents.refuse(name, reasons.sparse(line))
        elif element.complex_values and kind in _DTYPES:
            self.contents.skipped[name] = "complex numbers are neither numbers nor text"
        elif kind in _DTYPES:
            dtype = np.dtype(element.dtype or _DTYPES[kind])
            size = math.prod(shape) * dtype.itemsize
            if size > limits.MAX_BLOCK_BYTES:
                raise InputError(
                    f"{self._path}: {name} has {size} bytes, expected at most "
                    f"{limits.MAX_BLOCK_BYTES} in a .mat file older than v7.3. Save it with -v7.3."
                )
            self.contents.add(name, vector_shape(shape), dtype)
        elif kind == "char" and len(shape) > 1:  # SciPy's shape lacks the last axis
            # MATLAB stores the letters along the second axis, SciPy along the last.
            raise InputError(
                f"{self._path}: {name} is a char array of {len(shape) + 1} axes, and writers "
                "differ in the axis of the letters. Save it as a cell array of text."
            )
        elif kind in ("char", "cell") and (texts := _as_texts(self._variable(name))) is not None:
            self.contents.add(name, texts.shape, TEXT)
        else:
            self.contents.skipped[name] = f"class {kind} is neither numbers nor text"

    def _load(self, name: str) -> Array:
        """Load a variable; cache the variable until another variable is loaded."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            try:
                variable = self._variable(name)
                values = _as_texts(variable)
                if values is None:  # version 4 keeps the byte order of the machine that wrote it
                    native = variable.astype(variable.dtype.newbyteorder("="), copy=False)
                    values = native.reshape(vector_shape(variable.shape))
            except _DAMAGE as error:
                raise refusal(
                    InputError, f"{self._path}: {name} cannot be read: {error}", error
                ) from None
            self._loaded = name, values
        return self._loaded[1]

    def _variable(self, name: str) -> Array:
        values = scipy.io.loadmat(self._path, variable_names=[name], mat_dtype=True)[name]
        if not isinstance(values, np.ndarray):
            raise ValueError(f"its type is {type(values).__name__}, expected an array")
        return values


def _as_texts(values: Array) -> Array | None:
    """Convert a char matrix or a cell vector of text to text (n,); None for other values."""
    items = values.ravel()
    if values.dtype.kind == "O" and len(items) == max(values.shape, default=0):
        if not all(isinstance(item, np.ndarray) and item.dtype.kind == "U" for item in items):
            return None
        items = np.array(["".join(item.ravel().tolist()) for item in items], TEXT)
    elif values.dtype.kind != "U":
        return None
    return np.array([str(item).rstrip(" ") for item in items], TEXT)
