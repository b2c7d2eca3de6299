"""Read rows of a local Zarr array straight from its chunk files, without Zarr.

Zarr reads a chunk into bytes and copies these bytes into its result. This package stores chunks
uncompressed, so the bytes of a chunk are its values, and a direct read takes half of the time. The
saved time matters in the B-step. The B-step reads all features once per iteration, on the cores
that also compute matrix products.

Zarr reads the chunks of all other arrays. Zarr also reads damaged chunks, and reports the damage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from srch_dist.kernels.types import Array
from srch_dist.storage._plain_chunks import chunk_values, is_plain
from srch_dist.storage._zarr_stores import chunk_file, first_of_rows


def read_plain(path: Path, array: zarr.Array[Any], start: int, stop: int) -> Array | None:
    """Read rows ``start`` to ``stop`` - 1 of ``array``, which is stored in the folder ``path``.

    Returns None if the array is not plain (see `is_plain`), if its chunks do
    not hold all columns, or if a checksum does not match.
    """
    stop = min(stop, array.shape[0])
    if start >= stop or not is_plain(array) or array.chunks[1:] != array.shape[1:]:
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


def _read_chunk(path: Path, array: zarr.Array[Any], chunk: int) -> Array | None:
    raw = np.fromfile(chunk_file(path, array, first_of_rows(array, chunk)), dtype=np.uint8)
    return chunk_values(raw, array)
