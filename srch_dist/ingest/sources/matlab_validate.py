"""The elements of a .mat file of version 4 to 7, looked through before SciPy reads them.

SciPy allocates what an element says that it holds, before it looks whether the file does, and looks
up an element's kind in a table without asking whether it is in there. Format: "MAT-File Format"
(MathWorks), chapter 1.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import IO, Literal, Protocol

from srch_dist.errors import InputError
from srch_dist.ingest import limits

_HEADER_BYTES, _TAG_BYTES = 128, 8
_INT32, _MATRIX, _COMPRESSED = 5, 14, 15
# Kinds of elements with values: integers, floats and text.
_VALUES = {*range(1, 8), 9, 12, 13, 16, 17, 18}
# Classes of matrices with a part for every value: cells, text, numbers. Not structs and sparse.
_CELLS = 1
_FULL = {_CELLS, 4, *range(6, 16)}
# Version 4: bytes of a value by type, and the largest number of a type.
_ITEMSIZES, _LARGEST_TYPE = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}, 5000
# Cells in cells in cells.
_DEPTH = 32
_STEP_BYTES = 1 << 20
# Of 64 axes, twice what NumPy had for long.
_SHAPE_BYTES = 256


class _Stream(Protocol):
    def read(self, size: int) -> bytes: ...

    def skip(self, size: int) -> None: ...


class _Stored:
    """Bytes as they are in the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        self._file.seek(size, 1)


class _Inflated:
    """Compressed bytes, unfolded as they are asked for and up to what is ever read at once."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data = path, data
        self._stream, self._grown = zlib.decompressobj(), 0

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and self._data and not self._stream.eof:
            found += self._stream.decompress(self._data, size - len(found))
            self._data = self._stream.unconsumed_tail
        self._grown += len(found)
        self.refuse_growth(self._grown)
        return found

    def skip(self, size: int) -> None:
        while size > 0 and (found := self.read(min(size, _STEP_BYTES))):
            size -= len(found)

    def refuse_growth(self, size: int) -> None:
        """Refuse what unfolds into ``size`` bytes where that is too much."""
        if size > limits.WHOLE_BYTES + _HEADER_BYTES:
            raise InputError(
                f"{self._path}: a variable decompresses to more than {limits.WHOLE_BYTES} bytes; "
                "save it with -v7.3"
            )


def check_elements(path: Path) -> None:
    """Refuse a file with elements that say they hold more than there is, or unfold into too much.

    Raises
    ------
    InputError : with the file, and what the element says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if 0 in head[:4] or head[126:128] not in (b"IM", b"MI"):
            _check_version_4(path, file, size)
            return
        walk = _Walk(path, head[126:128] == b"IM")
        left = size - _HEADER_BYTES
        while left >= _TAG_BYTES:
            kind, length = walk.tag(file.read(_TAG_BYTES))
            left -= _TAG_BYTES
            walk.refuse_beyond(length, left)
            if kind == _COMPRESSED:
                inner = _Inflated(path, file.read(length))
                inner_kind, inner_length = walk.tag(inner.read(_TAG_BYTES))
                inner.refuse_growth(inner_length)
                if inner_kind == _MATRIX:
                    walk.matrix(inner, inner_length)
            else:
                start = file.tell()
                if kind == _MATRIX:
                    walk.matrix(_Stored(file), length)
                file.seek(start + length)
            left -= length


def _check_version_4(path: Path, file: IO[bytes], size: int) -> None:
    """The same of a file of version 4: headers of five numbers, names and values in turn."""
    file.seek(0)
    order: Literal["little", "big"] = "little"
    if int.from_bytes(file.read(4), order) > _LARGEST_TYPE:
        order = "big"
    file.seek(0)
    while len(head := file.read(20)) == 20:
        kind, rows, columns, imaginary, name = (
            int.from_bytes(head[i : i + 4], order) for i in range(0, 20, 4)
        )
        itemsize = _ITEMSIZES.get(kind // 10 % 10, 8) * (2 if imaginary else 1)
        left = size - file.tell()
        if name + rows * columns * itemsize > left:
            raise InputError(
                f"{path}: a variable has shape ({rows}, {columns}) and a name of {name} letters, "
                f"but {left} bytes are left"
            )
        file.seek(name + rows * columns * itemsize, 1)


class _Walk:
    def __init__(self, path: Path, little: bool) -> None:
        self._path, self._little = path, little

    def tag(self, raw: bytes) -> tuple[int, int]:
        """Kind and length of an element."""
        return self._number(raw[:4]), self._number(raw[4:])

    def matrix(self, stream: _Stream, left: int, depth: int = 0) -> None:
        """Look through the parts of a matrix of ``left`` bytes."""
        if depth > _DEPTH:
            raise InputError(f"{self._path}: cells in each other, more than {_DEPTH} deep")
        whole, number, values, nested = left, 0, False, True
        while left >= _TAG_BYTES:
            raw = stream.read(_TAG_BYTES)
            if len(raw) < _TAG_BYTES:
                raise InputError(f"{self._path} ends early, within a variable")
            left -= _TAG_BYTES
            kind, length = self.tag(raw)
            if kind >> 16:  # up to four bytes, in the tag itself
                self.refuse_beyond(kind >> 16, 4)
                kind, content = kind & 0xFFFF, raw[4 : 4 + (kind >> 16)]
                self._refuse_unknown(kind, False)
            else:
                self._refuse_unknown(kind, number > 1 and nested)
                self.refuse_beyond(length, left)
                padded = min(left, -(-length // 8) * 8)
                left -= padded
                content = b""
                if kind == _MATRIX:
                    self.matrix(stream, length, depth + 1)
                elif number < 2 and length <= _SHAPE_BYTES:
                    content = stream.read(padded)[:length]
                else:
                    stream.skip(padded)
            if number == 0:
                found = self._number(content[:4]) & 0xFF
                values, nested = found in _FULL, found not in _FULL or found == _CELLS
            elif number == 1 and values:
                self._refuse_shape(kind, content, whole)
            number += 1

    def refuse_beyond(self, length: int, left: int) -> None:
        """Refuse an element of more bytes than are left."""
        if length > left:
            raise InputError(
                f"{self._path} is damaged: an element says that it has {length} bytes, {left} are "
                "left"
            )

    def _refuse_unknown(self, kind: int, nested: bool) -> None:
        """Refuse an element that has no values and, unless it may be ``nested``, is a matrix."""
        if kind not in _VALUES and not (nested and kind == _MATRIX):
            raise InputError(
                f"{self._path} is damaged: an element within a variable is of kind {kind}"
            )

    def _refuse_shape(self, kind: int, dims: bytes, size: int) -> None:
        if kind != _INT32 or len(dims) < 8:
            raise InputError(f"{self._path} is damaged: a variable has no shape")
        shape = tuple(self._number(dims[i : i + 4]) for i in range(0, len(dims) - 3, 4))
        if math.prod(shape) > size:  # a byte a value at least
            raise InputError(f"{self._path}: a variable has shape {shape}, but holds {size} bytes")

    def _number(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self._little else "big")
