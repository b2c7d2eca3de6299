"""Check the file of a faiss binary index before faiss reads it.

faiss allocates as much memory as the file claims to need: a file of 60 bytes can claim gigabytes.
An export writes two kinds of index. `check_index` follows their structure and allocates nothing
larger than the file::

    flat      "IBxF", head, codes
    inverted  "IBwF", head, lists, probes, flat index of the centres, empty map of rows,
              "ilar", lists, width, "full" or "sprs", sizes of the lists, their codes and rows
    head      bits int32, width int32, rows int64, trained byte, metric int32

A vector is stored as its length (uint64), then its values. All numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import StorageError
from srch_dist.kernels.types import IntArray
from srch_dist.storage.failures import storage_error

# Number of the metric that faiss writes into every binary index.
_METRIC = 1


def check_index(path: Path) -> None:
    """Check that a file has the length and the structure of an index that an export wrote.

    Raises
    ------
    StorageError : the file has another length or structure, or it cannot be read.
    """
    try:
        damage = find_damage(path)
    except OSError as error:
        raise storage_error("read", path, error) from None
    if damage is not None:
        raise StorageError(
            f"cannot read {path} as a faiss binary index: {damage}. Write it again with: "
            "python -m srch_dist.export"
        )


def find_damage(path: Path) -> str | None:
    """Describe the first damage of an index file; None if it is intact. Raises OSError."""
    try:
        with path.open("rb") as file:
            _IndexFile(file).check()
    except ValueError as error:
        return str(error)
    return None


class _IndexFile:
    """Parser of an index file; a method raises ValueError if the part that it reads is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def check(self) -> None:
        """Check the whole file."""
        kind = self._bytes(4)
        if kind == b"IBxF":
            self._check_flat()
        elif kind == b"IBwF":
            self._check_inverted()
        else:
            raise ValueError(f"it starts with {kind!r}, expected IBxF or IBwF")
        if self._left():
            raise ValueError(f"{self._left()} bytes follow the end of the index")

    def _check_flat(self) -> tuple[int, int]:
        """Check a flat index; return the bits of a code and the number of rows."""
        bits, width, rows = self._head()
        self._equal("bytes of codes", self._numbers("<Q"), (rows * width,))
        self._skip(rows * width)
        return bits, rows

    def _check_inverted(self) -> None:
        bits, width, rows = self._head()
        lists, _probes = self._numbers("<QQ")
        self._expect(b"IBxF")
        self._equal("centres", self._check_flat(), (bits, lists))
        self._equal("map of rows", self._numbers("<BQ"), (0, 0))
        self._expect(b"ilar")
        self._equal("lists", self._numbers("<QQ"), (lists, width))
        self._skip(self._list_sizes(lists, rows) * (width + 8))

    def _list_sizes(self, lists: int, rows: int) -> int:
        """Check the sizes of the lists; return the number of rows in all lists together."""
        kind = self._bytes(4)
        if kind not in (b"full", b"sprs"):
            raise ValueError(f"its lists are of kind {kind!r}, expected full or sprs")
        sizes = self._vector()
        if kind == b"sprs":  # numbers and sizes of the lists that are not empty
            if len(sizes) % 2 or (len(sizes) and sizes[::2].max() >= lists):
                raise ValueError(
                    f"it has {len(sizes)} numbers and sizes of lists, with list numbers up to "
                    f"{sizes[::2].max()}; expected pairs, with list numbers 0 to {lists - 1}"
                )
            sizes = sizes[1::2]
        else:
            self._equal("lists", len(sizes), lists)
        # A sum of sizes beyond the rows could wrap around.
        if len(sizes) and sizes.max() > rows:
            raise ValueError(f"a list has {sizes.max()} rows, but the index has {rows}")
        self._equal("rows", int(sizes.sum()), rows)
        return rows

    def _head(self) -> tuple[int, int, int]:
        """Read and check the head; return bits per code, bytes per code and number of rows."""
        bits, width, rows, trained, metric = self._numbers("<iiqBi")
        if width < 1 or bits != 8 * width or rows < 1 or (trained, metric) != (1, _METRIC):
            raise ValueError(
                f"its head says {rows} codes of {bits} bits in {width} bytes, trained {trained}, "
                f"metric {metric}"
            )
        return bits, width, rows

    def _vector(self) -> IntArray:
        """Read a vector of uint64, and return it as int64."""
        (count,) = self._numbers("<Q")
        values: NDArray[Any] = np.frombuffer(self._bytes(8 * count), "<u8")
        if count and values.max() >> np.uint64(63):
            raise ValueError(f"it holds the number {values.max()}, expected less than 2**63")
        return values.astype(np.int64)

    def _numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))

    def _expect(self, mark: bytes) -> None:
        self._equal("mark", self._bytes(len(mark)), mark)

    def _equal(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise ValueError(f"{what}: found {found!r}, expected {expected!r}")

    def _bytes(self, count: int) -> bytes:
        self._require(count)
        return self._file.read(count)

    def _skip(self, count: int) -> None:
        self._require(count)
        self._file.seek(count, os.SEEK_CUR)

    def _require(self, count: int) -> None:
        if count > self._left():
            raise ValueError(f"the next part needs {count} more bytes, but {self._left()} are left")

    def _left(self) -> int:
        return self._size - self._file.tell()
