"""A bucket in the memory of the test process, in place of an S3 server; it counts requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import obstore
import pytest
from obstore.store import MemoryStore

from srch_dist.storage import s3, scratch_objects
from srch_dist.storage.locations import S3Path

# Functions of obstore that send one request each, with those that Zarr calls. Amazon charges put
# and list at one price, get and head at another, and nothing for delete.
_GETS = ("get", "head", "get_async", "head_async")
_PUTS = ("put", "put_async", "list", "list_with_delimiter", "open_writer")


@contextmanager
def memory_bucket() -> Iterator[S3Path]:
    """Let this process find every bucket empty, in memory; yield a place in one."""
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_connect", lambda _bucket, _seconds, _settings: store)
        scratch_objects._headers.clear()  # versions of this store count from 0, unlike those of S3
        yield S3Path("bucket", "place")


@contextmanager
def counted_requests() -> Iterator[list[tuple[str, str]]]:
    """Yield a list that grows by ("get" or "put", key) with each request of this process."""
    found: list[tuple[str, str]] = []

    def counting(kind: str, name: str):
        real = getattr(obstore, name)

        def call(store, *arguments, **options):
            found.append((kind, str(arguments[0]) if arguments else options.get("prefix", "")))
            return real(store, *arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for kind, names in (("get", _GETS), ("put", _PUTS)):
            for name in names:
                patch.setattr(obstore, name, counting(kind, name))
        yield found
