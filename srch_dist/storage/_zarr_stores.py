"""Open a location as a Zarr store, and find the file of a chunk.

Zarr reads an absent chunk as fill values. This package writes every chunk of an array, so an absent
chunk has been lost. For an absent chunk, a read from an object store therefore raises an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore, StorePath

from srch_dist.storage.locations import Location
from srch_dist.storage.s3 import connect

P = TypeVar("P", bound=Location)


class LostChunkError(Exception):
    """A chunk vanished after its size was checked; the message is the key of the chunk."""


class _WholeStore(ObjectStore[Any]):
    """Zarr store in an object store that raises LostChunkError for an absent chunk."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of the object ``key``; raise LostChunkError for an absent chunk."""
        content = await super().get(key, prototype, byte_range)
        if content is None and (key.startswith("c/") or "/c/" in key):
            raise LostChunkError(key)
        return content


def zarr_store(path: Location, whole: bool = False) -> str | StorePath:
    """Return the Zarr store of a location.

    If ``whole`` is True, reading an absent chunk of an S3 location raises LostChunkError.
    """
    if isinstance(path, Path):
        return str(path)
    store = connect(path.bucket)
    return StorePath(_WholeStore(store) if whole else ObjectStore(store), path.key)


def chunk_file(path: P, array: zarr.Array[Any], place: tuple[int, ...]) -> P:
    """Return the file or object of a chunk; ``place`` is the chunk's index along each axis."""
    # `/` of either type returns the same type, which the union's `/` does not express.
    return cast(P, path / str(array.metadata.encode_chunk_key(place)))


def first_of_rows(array: zarr.Array[Any], chunk: int) -> tuple[int, ...]:
    """Return (chunk, 0, …): the index, along each axis, of the first chunk of a range of rows."""
    return (chunk, *(0 for _ in array.shape[1:]))
