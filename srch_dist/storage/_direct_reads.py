"""Read rows of a local Zarr array straight from its chunk files, without Zarr.

Zarr reads a chunk into bytes and copies these bytes into its result. This package stores chunks
uncompressed, so the bytes of a chunk are its values, and a direct read takes half of the time. The
saved time matters in the B-step. The B-step reads all features once per iteration, on the cores
that also compute matrix products.

Zarr reads the chunks of all other arrays. Zarr also reads damaged chunks, and reports the damage.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from srch_dist.kernels.types import Array
from srch_dist.storage._plain_chunks import chunk_values, is_plain
from srch_dist.storage._zarr_stores import chunk_file, first_of_rows

_ALL = slice(None)


def read_plain(
    path: Path, array: zarr.Array[Any], start: int, stop: int, columns: slice = _ALL
) -> Array | None:
    """Read rows ``start`` to ``stop`` - 1 of ``array``, which is stored in the folder ``path``.

    Of a matrix, only the given ``columns`` are read. Returns None if the array is not plain (see
    `is_plain`), if a chunk splits its later axes, or if a checksum does not match.
    """
    stop = min(stop, array.shape[0])
    low, high, _ = columns.indices(array.shape[1]) if array.ndim > 1 else (0, 1, 1)
    if start >= stop or low >= high or not is_plain(array) or array.chunks[2:] != array.shape[2:]:
        return None
    steps = (array.chunks[0], array.chunks[1] if array.ndim > 1 else 1)
    rows = None
    for place in product(*map(_chunks, ((start, stop), (low, high)), steps)):
        values = _read_chunk(path, array, (*place, *first_of_rows(array, 0)[2:])[: array.ndim])
        if values is None:
            return None
        (own, ours), (across, theirs) = map(_overlap, place, steps, ((start, stop), (low, high)))
        part = values[own] if array.ndim == 1 else values[own, across]
        shape = (stop - start, *(high - low, *array.shape[2:])[: array.ndim - 1])
        whole = min(steps[0], array.shape[0] - place[0] * steps[0])
        if part.shape == shape and len(part) == whole and part.shape[1:] == values.shape[1:]:
            return part
        if rows is None:
            rows = np.empty(shape, dtype=array.dtype)
        rows[ours if array.ndim == 1 else (ours, theirs)] = part
    return rows


def _chunks(span: tuple[int, int], step: int) -> range:
    """Return the numbers of the chunks of ``step`` positions that overlap ``span``."""
    return range(span[0] // step, -(-span[1] // step))


def _overlap(chunk: int, step: int, span: tuple[int, int]) -> tuple[slice, slice]:
    """Return the overlap of a chunk and ``span``, relative to the chunk and to ``span``."""
    low, high = max(span[0], chunk * step), min(span[1], (chunk + 1) * step)
    return slice(low - chunk * step, high - chunk * step), slice(low - span[0], high - span[0])


def _read_chunk(path: Path, array: zarr.Array[Any], place: tuple[int, ...]) -> Array | None:
    raw = np.fromfile(chunk_file(path, array, place), dtype=np.uint8)
    return chunk_values(raw, array)
