"""Validate the elements of a .mat file of version 4 to 7 before SciPy reads them.

An element is a typed record of the file; a variable consists of elements. SciPy allocates the size
that an element states, and compares that size with the file size only later. SciPy also uses an
element's data type as an index into a table without a bounds check. Format: "MAT-File Format"
(MathWorks), chapter 1.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol

from srch_dist.errors import InputError
from srch_dist.ingest import limits

_HEADER_BYTES, _TAG_BYTES = 128, 8
_INT32, _MATRIX, _COMPRESSED = 5, 14, 15
# Data types of elements with values: integers, floats and text.
_VALUE_TYPES = {*range(1, 8), 9, 12, 13, 16, 17, 18}
# Classes of arrays that store every value: cells, text, numbers. Not structs and sparse matrices.
_CELLS = 1
_DENSE = {_CELLS, 4, *range(6, 16)}
_SPARSE, _COMPLEX_FLAG = 5, 8
# Version 4: dtype of the values by precision code, and the largest value of the type field.
_PRECISIONS = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
_LARGEST_TYPE = 5000
# Maximum depth of nested cell arrays.
_MAX_DEPTH = 32
# Bytes per step when decompressed bytes are skipped.
_STEP_BYTES = 1 << 20
# Maximum bytes of a stored shape: four for each of 64 axes, the maximum of NumPy.
_MAX_SHAPE_BYTES = 256


class StoredVariable(NamedTuple):
    """Properties in a variable's header that `scipy.io.whosmat` does not list.

    Attributes
    ----------
    sparse : whether the variable is a sparse matrix. SciPy lists a sparse logical matrix as dense.
    complex_values : whether the numbers of the variable have imaginary parts.
    dtype : stored dtype of a variable of version 4, which SciPy lists as double; else None.
    """

    sparse: bool
    complex_values: bool
    dtype: str | None = None


class _Stream(Protocol):
    def read(self, size: int) -> bytes: ...

    def skip(self, size: int) -> None: ...


class _Stored:
    """Stream of the file's bytes, for variables that are not compressed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        self._file.seek(size, 1)


class _Inflated:
    """Stream that decompresses one variable on demand; refuses a variable that is too large."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data = path, data
        self._stream, self._expanded = zlib.decompressobj(), 0

    def read(self, size: int) -> bytes:
        content = b""
        while len(content) < size and self._data and not self._stream.eof:
            content += self._stream.decompress(self._data, size - len(content))
            self._data = self._stream.unconsumed_tail
        self._expanded += len(content)
        self.refuse_expanded(self._expanded)
        return content

    def skip(self, size: int) -> None:
        while size > 0 and (content := self.read(min(size, _STEP_BYTES))):
            size -= len(content)

    def finish(self) -> None:
        """Decompress the rest, so that zlib verifies the checksum, which SciPy does not verify."""
        while self.read(_STEP_BYTES):
            pass
        if not self._stream.eof:
            raise InputError(f"{self._path} is damaged: a compressed variable is truncated")

    def refuse_expanded(self, size: int) -> None:
        """Raise InputError if ``size``, the number of decompressed bytes, is too large."""
        if size > limits.MAX_BLOCK_BYTES + _HEADER_BYTES:
            raise InputError(
                f"{self._path}: a variable decompresses to more than {limits.MAX_BLOCK_BYTES} "
                "bytes. Save it with -v7.3."
            )


def check_elements(path: Path) -> list[StoredVariable]:
    """Check every element; return, for each variable, the properties that SciPy does not list.

    An element must fit into the file and into memory and have a known data type. A compressed
    element must match its checksum.

    Raises
    ------
    InputError : an element fails a check. The message names the file and the wrong value.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if 0 in head[:4] or head[126:128] not in (b"IM", b"MI"):
            return _check_version_4(path, file, size)
        walk = _Walk(path, head[126:128] == b"IM")
        left = size - _HEADER_BYTES
        while left >= _TAG_BYTES:
            kind, length = walk.tag(file.read(_TAG_BYTES))
            left -= _TAG_BYTES
            walk.refuse_beyond(length, left)
            if kind == _COMPRESSED:
                inner = _Inflated(path, file.read(length))
                inner_kind, inner_length = walk.tag(inner.read(_TAG_BYTES))
                inner.refuse_expanded(inner_length)
                if inner_kind == _MATRIX:
                    walk.matrix(inner, inner_length)
                inner.finish()
            else:
                start = file.tell()
                if kind == _MATRIX:
                    walk.matrix(_Stored(file), length)
                file.seek(start + length)
            left -= length
        return walk.variables


def _check_version_4(path: Path, file: IO[bytes], size: int) -> list[StoredVariable]:
    """Check a file of version 4: each variable has five int32, then its name, then its values."""
    file.seek(0)
    order: Literal["little", "big"] = "little"
    if int.from_bytes(file.read(4), order) > _LARGEST_TYPE:
        order = "big"
    file.seek(0)
    variables: list[StoredVariable] = []
    while len(head := file.read(20)) == 20:
        kind, rows, columns, imaginary, name = (
            int.from_bytes(head[i : i + 4], order) for i in range(0, 20, 4)
        )
        dtype = _PRECISIONS.get(kind // 10 % 10)
        itemsize = int((dtype or "f8")[1:]) * (2 if imaginary else 1)
        left = size - file.tell()
        if name + rows * columns * itemsize > left:
            raise InputError(
                f"{path} is damaged: a variable has shape ({rows}, {columns}) and a name of {name} "
                f"bytes, but {left} bytes are left"
            )
        file.seek(name + rows * columns * itemsize, 1)
        variables.append(StoredVariable(kind % 10 == 2, bool(imaginary), dtype))
    return variables


class _Walk:
    """Reads and checks the elements of a file of version 5 to 7."""

    def __init__(self, path: Path, little: bool) -> None:
        self._path, self._little = path, little
        self.variables: list[StoredVariable] = []

    def tag(self, raw: bytes) -> tuple[int, int]:
        """Decode an element's tag: its data type and its length in bytes."""
        return self._number(raw[:4]), self._number(raw[4:])

    def matrix(self, stream: _Stream, left: int, depth: int = 0) -> None:
        """Check an array element of ``left`` bytes: its flags, shape, name and values."""
        if depth > _MAX_DEPTH:
            raise InputError(f"{self._path}: cell arrays are nested more than {_MAX_DEPTH} deep")
        size, part, dense, nested = left, 0, False, True
        while left >= _TAG_BYTES:
            raw = stream.read(_TAG_BYTES)
            if len(raw) < _TAG_BYTES:
                raise InputError(f"{self._path} is truncated within a variable")
            left -= _TAG_BYTES
            kind, length = self.tag(raw)
            if kind >> 16:  # a small element: up to four bytes, inside the tag
                self.refuse_beyond(kind >> 16, 4)
                kind, content = kind & 0xFFFF, raw[4 : 4 + (kind >> 16)]
                self._refuse_unknown(kind, False)
            else:
                self._refuse_unknown(kind, part > 1 and nested)
                self.refuse_beyond(length, left)
                padded = min(left, -(-length // 8) * 8)
                left -= padded
                content = b""
                if kind == _MATRIX:
                    self.matrix(stream, length, depth + 1)
                elif part < 2 and length <= _MAX_SHAPE_BYTES:
                    content = stream.read(padded)[:length]
                else:
                    stream.skip(padded)
            if part == 0:
                array_class = self._number(content[:4]) & 0xFF
                dense = array_class in _DENSE
                nested = not dense or array_class == _CELLS
                if depth == 0:
                    complex_values = bool(self._number(content[:4]) >> 8 & _COMPLEX_FLAG)
                    self.variables.append(StoredVariable(array_class == _SPARSE, complex_values))
            elif part == 1 and dense:
                self._refuse_shape(kind, content, size)
            part += 1

    def refuse_beyond(self, length: int, left: int) -> None:
        """Raise InputError if an element claims ``length`` bytes but only ``left`` remain."""
        if length > left:
            raise InputError(
                f"{self._path} is damaged: an element claims {length} bytes, but {left} are left"
            )

    def _refuse_unknown(self, kind: int, nested: bool) -> None:
        """Raise InputError for an unknown data type; arrays are known only if ``nested``."""
        if kind not in _VALUE_TYPES and not (nested and kind == _MATRIX):
            raise InputError(
                f"{self._path} is damaged: an element within a variable has the unknown data type "
                f"{kind}"
            )

    def _refuse_shape(self, kind: int, dims: bytes, size: int) -> None:
        if kind != _INT32 or len(dims) < 8:
            raise InputError(f"{self._path} is damaged: a variable has no valid shape")
        shape = tuple(self._number(dims[i : i + 4]) for i in range(0, len(dims) - 3, 4))
        if math.prod(shape) > size:  # every value has at least one byte
            raise InputError(
                f"{self._path} is damaged: a variable has shape {shape}, but only {size} bytes of "
                "values"
            )

    def _number(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self._little else "big")
