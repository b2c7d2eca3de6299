"""The Zarr store of a location, and how a lost chunk is kept from reading as zeros there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from srch_dist.storage.locations import Location
from srch_dist.storage.s3 import connect


class LostChunkError(Exception):
    """A chunk that went away between the look at it and its reading; the message is its key."""


class _WholeStore(ObjectStore[Any]):
    """An object store for reading arrays all of whose chunks were written."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The object at ``key``; Zarr takes None for a chunk of fill values."""
        found = await super().get(key, prototype, byte_range)
        if found is None and (key.startswith("c/") or "/c/" in key):
            raise LostChunkError(key)
        return found


def zarr_store(path: Location, whole: bool = False) -> str | ObjectStore[Any]:
    """What Zarr opens a location by; ``whole`` where every chunk that is read has to be there."""
    if isinstance(path, Path):
        return str(path)
    store = connect(path.bucket, prefix=path.key)
    return _WholeStore(store) if whole else ObjectStore(store)
