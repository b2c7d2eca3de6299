"""What Zarr opens at a location, and the files of its chunks.

Zarr reads an absent chunk as fill values. Arrays of this package write every chunk, so an absent
one is lost: reads of object stores raise instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from srch_dist.storage.locations import Location
from srch_dist.storage.s3 import connect

P = TypeVar("P", bound=Location)


class LostChunkError(Exception):
    """A chunk that vanished between the check of its size and its read; the message is its key."""


class _WholeStore(ObjectStore[Any]):
    """An object store of arrays whose chunks were all written."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The object at ``key``; None, which Zarr reads as fill values, is refused for a chunk."""
        content = await super().get(key, prototype, byte_range)
        if content is None and (key.startswith("c/") or "/c/" in key):
            raise LostChunkError(key)
        return content


def zarr_store(path: Location, whole: bool = False) -> str | ObjectStore[Any]:
    """What Zarr opens at a location; with ``whole``, an absent chunk is an error."""
    if isinstance(path, Path):
        return str(path)
    store = connect(path.bucket, prefix=path.key)
    return _WholeStore(store) if whole else ObjectStore(store)


def chunk_file(path: P, array: zarr.Array[Any], place: tuple[int, ...]) -> P:
    """The file or object of the chunk at ``place`` in the grid of chunks."""
    # `/` of either type returns the same type, which the union's `/` does not express.
    return cast(P, path / str(array.metadata.encode_chunk_key(place)))


def first_of_rows(array: zarr.Array[Any], chunk: int) -> tuple[int, ...]:
    """The place in the grid of the first chunk of the ``chunk``-th run of rows."""
    return (chunk, *(0 for _ in array.shape[1:]))
