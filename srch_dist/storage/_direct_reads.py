"""Rows of a Zarr array on a disk, straight from its chunks.

Zarr reads a chunk into bytes, which it copies into the array that it returns. Features are read at
every iteration, by the cores that work on them, so that a chunk whose bytes are its values is
taken as it is, in half of the time. All else is left to Zarr, and so is a chunk that is damaged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, Endian

from srch_dist.kernels.types import Array

_SUM_BYTES = 4


def read_plain(path: Path, array: zarr.Array[Any], start: int, stop: int) -> Array | None:
    """Rows ``start`` … ``stop`` - 1 of ``array``, which lies at ``path``.

    None where the chunks are of other kinds, or a checksum does not match.
    """
    stop = min(stop, array.shape[0])
    if start >= stop or not _is_plain(array):
        return None
    step = array.chunks[0]
    rows = None
    for chunk in range(start // step, -(-stop // step)):
        first = chunk * step
        values = _read_chunk(path, array, chunk)
        if values is None:
            return None
        low, high = max(start, first), min(stop, first + step)
        part = values[low - first : high - first]
        if high - low == stop - start == min(step, array.shape[0] - first):
            return part
        if rows is None:
            rows = np.empty((stop - start, *array.shape[1:]), dtype=array.dtype)
        rows[low - start : high - start] = part
    return rows


def _is_plain(array: zarr.Array[Any]) -> bool:
    """Whether a chunk's file is the numbers of whole rows as they lie in memory, and a crc32c."""
    codecs: Sequence[Any] = getattr(array.metadata, "codecs", ())
    return (
        len(codecs) == 2
        and isinstance(codecs[0], BytesCodec)
        and codecs[0].endian in (None, Endian.little)
        and isinstance(codecs[1], Crc32cCodec)
        and array.dtype.kind in "biuf"
        and array.dtype.isnative
        and sys.byteorder == "little"
        and array.chunks[1:] == array.shape[1:]
    )


def _read_chunk(path: Path, array: zarr.Array[Any], chunk: int) -> Array | None:
    place = (chunk, *(0 for _ in array.shape[1:]))
    raw = np.fromfile(path / str(array.metadata.encode_chunk_key(place)), dtype=np.uint8)
    values, known = raw[:-_SUM_BYTES], raw[-_SUM_BYTES:]
    checked = values.view()
    checked.flags.writeable = False
    if google_crc32c.value(checked) != int.from_bytes(known.tobytes(), "little"):
        return None
    return values.view(array.dtype).reshape(array.chunks)
