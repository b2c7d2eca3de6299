"""A bucket in the memory of the test process, in place of an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from obstore.store import MemoryStore

from srch_dist.storage import s3, scratch_objects
from srch_dist.storage.locations import S3Path


@contextmanager
def memory_bucket() -> Iterator[S3Path]:
    """Let this process find every bucket empty, in memory; yield a place in one."""
    store = MemoryStore()
    scratch_objects._headers.clear()  # versions of this store count from 0, unlike those of S3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_connect", lambda _bucket, _seconds, _settings: store)
        yield S3Path("bucket", "place")
