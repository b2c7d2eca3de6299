"""Read rows of a local Zarr array straight from its chunk files, without Zarr.

Zarr reads a chunk into bytes and copies these bytes into its result. This package stores chunks
uncompressed, so the bytes of a chunk are its values, and a direct read takes half of the time. The
saved time matters in the B-step. The B-step reads all features once per iteration, on the cores
that also compute matrix products.

Zarr reads the chunks of all other arrays. Zarr also reads damaged chunks, and reports the damage.
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
from srch_dist.storage._zarr_stores import chunk_file, first_of_rows

_SUM_BYTES = 4


def read_plain(path: Path, array: zarr.Array[Any], start: int, stop: int) -> Array | None:
    """Read rows ``start`` to ``stop`` - 1 of ``array``, which is stored in the folder ``path``.

    Returns None if the array is not plain (see `_is_plain`), or if the crc32c of a chunk is wrong.
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
    """Whether each chunk file holds complete, uncompressed rows of numbers, and then a crc32c."""
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
    raw = np.fromfile(chunk_file(path, array, first_of_rows(array, chunk)), dtype=np.uint8)
    values, expected = raw[:-_SUM_BYTES], raw[-_SUM_BYTES:]
    # google_crc32c parses its argument as a read-only buffer.
    read_only = values.view()
    read_only.flags.writeable = False
    if google_crc32c.value(read_only) != int.from_bytes(expected.tobytes(), "little"):
        return None
    return values.view(array.dtype).reshape(array.chunks)
