"""Count missing chunks in a shard of Zarr v3; Zarr silently reads such chunks as fill values.

A shard is one file of several chunks. An index at the end or the start of the file lists the offset
and the number of bytes of each chunk. For a chunk that was never written, both are 2^64 - 1.
Format: Zarr v3, codec ``sharding_indexed``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError

SHARDING = "sharding_indexed"
_MISSING = 2**64 - 1
_CHECKSUM_BYTES = 4

# A function (offset, length) that reads bytes of a shard.
_Read = Callable[[int, int], bytes]


def missing_in_shard(
    path: Path, codec: Mapping[str, Any], inside: Sequence[int], shard: Sequence[int]
) -> int:
    """Count the chunks of a shard that lie within the array and were never written.

    Parameters
    ----------
    path : file of the shard.
    codec : configuration of the array's ``sharding_indexed`` codec.
    inside : shape of the part of the shard that lies within the array.
    shard : shape of the whole shard.

    Raises
    ------
    InputError : the shard is damaged, or its index has unknown codecs.
    """
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return _missing(path, codec, inside, shard, read, path.stat().st_size)


def sharding_of(codecs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Find the configuration of ``sharding_indexed`` in an array's codecs; None without sharding.

    Raises
    ------
    InputError : ``codecs`` has other codecs, too, so the files are not plain shards.
    """
    names = [codec.get("name") for codec in codecs]
    if SHARDING not in names:
        return None
    if len(codecs) > 1:
        raise InputError(
            f"has the codecs {', '.join(map(str, names))}; missing chunks in its shards would not "
            "be noticed. Save the array with sharding_indexed as its only codec."
        )
    configuration: Mapping[str, Any] = codecs[0]["configuration"]
    return configuration


def _missing(
    path: Path,
    codec: Mapping[str, Any],
    inside: Sequence[int],
    shard: Sequence[int],
    read: _Read,
    size: int,
) -> int:
    chunk = [int(step) for step in codec["chunk_shape"]]
    grid = [rows // step for rows, step in zip(shard, chunk, strict=True)]
    entries = _index(path, codec, grid, read, size)
    wanted = [-(-rows // step) for rows, step in zip(inside, chunk, strict=True)]
    entries = entries[tuple(slice(count) for count in wanted)].reshape(-1, 2)
    absent = (entries == _MISSING).all(axis=1)
    present = entries[~absent]
    # Compared without a sum, which could overflow.
    if ((present[:, 0] > size) | (present[:, 1] > size - np.minimum(present[:, 0], size))).any():
        raise InputError(
            f"is damaged: a chunk lies beyond the end of {path}. Write the array again."
        )
    missing = int(absent.sum())
    nested = sharding_of(codec["codecs"])
    if nested is not None:
        positions = np.argwhere(~absent.reshape(wanted))
        for position, (offset, length) in zip(positions, present.tolist(), strict=True):
            left = [
                min(step, rows - at * step)
                for at, rows, step in zip(position.tolist(), inside, chunk, strict=True)
            ]
            missing += _missing(path, nested, left, chunk, _part(read, offset), length)
    return missing


def _part(read: _Read, start: int) -> _Read:
    """Return a reader for the nested shard that begins at byte ``start`` of its outer shard."""
    return lambda offset, length: read(start + offset, length)


def _index(
    path: Path, codec: Mapping[str, Any], grid: Sequence[int], read: _Read, size: int
) -> NDArray[np.uint64]:
    """Read the index of a shard, uint64 (*grid, 2): each chunk's offset and number of bytes.

    ``grid`` is the number of chunks along each axis.
    """
    codecs = codec["index_codecs"]
    names = [each["name"] for each in codecs]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise InputError(
            f"has shards with an index of unknown codecs ({', '.join(names)}). Save the array "
            "with the codecs bytes and crc32c for the index."
        )
    little = codecs[0].get("configuration", {}).get("endian", "little") == "little"
    checked = len(names) == 2
    content = 16 * math.prod(grid)
    length = content + checked * _CHECKSUM_BYTES
    if length > size:
        raise InputError(
            f"is damaged: {path} has {size} bytes, but its index needs {length}. Write the array "
            "again."
        )
    at_end = codec.get("index_location", "end") == "end"
    raw = read(size - length if at_end else 0, length)
    if checked and google_crc32c.value(raw[:content]) != int.from_bytes(raw[content:], "little"):
        raise InputError(
            f"is damaged: the index of {path} does not match its checksum. Write the array again."
        )
    return np.frombuffer(raw[:content], "<u8" if little else ">u8").reshape(*grid, 2)
