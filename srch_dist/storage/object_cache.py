"""Cache of objects on the disk of one worker: bounded, and never the only copy.

Every read of a cached object asks the store whether the object is unchanged (``If-None-Match``). If
it is, the store sends no content. A stale or damaged cache therefore never changes a result.
A cache that is full replaces random entries: passes over all features in the same order would
never find an entry if the oldest one was replaced.
"""

from __future__ import annotations

import random
import shutil
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srch_dist.storage.failures import translate_s3_errors
from srch_dist.storage.locations import S3Path
from srch_dist.storage.s3 import UNCHANGED, connect, is_answer, obstore

# Smaller objects are not cached: the request costs more than their bytes.
_SMALLEST = 16 << 10
# Bytes of an object that are in memory while it is downloaded to the cache.
_STREAMED_BYTES = 8 << 20


class _Entry(NamedTuple):
    """A cached object: its local file, its version in the store, its bytes.

    A ``pinned`` object is read in ranges, many times. It stays until the store has removed it.
    """

    file: Path
    version: str
    size: int
    pinned: bool


@dataclass
class ObjectCache:
    """Objects in files below ``folder``, of at most ``limit`` bytes together."""

    folder: Path
    limit: int
    _entries: dict[S3Path, _Entry] = field(default_factory=dict)
    # Pinned objects for which there was no room.
    _refused: set[tuple[S3Path, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _used: int = 0

    def find(self, path: S3Path) -> _Entry | None:
        """Return the entry of an object; None if it is not cached."""
        with self._lock:
            return self._entries.get(path)

    def takes(self, path: S3Path, version: str, size: int) -> bool:
        """Whether an object of ``size`` bytes may be cached."""
        return _SMALLEST <= size <= self.limit and (path, version) not in self._refused

    def keep(
        self, path: S3Path, version: str, size: int, parts: Iterable[Any], pinned: bool = False
    ) -> _Entry | None:
        """Cache an object, whose content comes in ``parts``; return its entry.

        Returns None, and reads none of the parts, if the object is small or has no room. Returns
        None also if the disk is full or fails: the object then stays uncached.
        """
        if not self.takes(path, version, size):
            return None
        if not self._reserve(path, size):
            if pinned:
                self._refused.add((path, version))
            return None
        entry = _Entry(self.folder / uuid.uuid4().hex, version, size, pinned)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with entry.file.open("wb") as file:
                for part in parts:
                    file.write(part)
        except BaseException as error:
            with self._lock:
                self._used -= size
            with suppress(OSError):
                entry.file.unlink()
            if isinstance(error, OSError) and not is_answer(error):
                return None
            raise
        with self._lock:
            self._drop(path)  # of another thread that read the same object
            self._entries[path] = entry
        return entry

    def forget(self, path: S3Path) -> None:
        """Remove an object from the cache."""
        with self._lock:
            self._drop(path)

    def clear(self) -> None:
        """Remove the whole cache."""
        with self._lock:
            self._entries.clear()
            self._used = 0
            shutil.rmtree(self.folder, ignore_errors=True)

    def _reserve(self, path: S3Path, size: int) -> bool:
        """Make room for an object, and count its bytes; return False if there is no room."""
        with self._lock:
            self._drop(path)
            pinned = [path for path, entry in self._entries.items() if entry.pinned]
            if self._used + size > self.limit:
                for old in pinned:
                    if old.size() is None:
                        self._drop(old)
            others = [path for path, entry in self._entries.items() if not entry.pinned]
            # Nothing that is computed depends on the order.
            random.shuffle(others)
            while self._used + size > self.limit and others:
                self._drop(others.pop())
            if self._used + size > self.limit:
                return False
            self._used += size
            return True

    def _drop(self, path: S3Path) -> None:
        entry = self._entries.pop(path, None)
        if entry is not None:
            self._used -= entry.size
            with suppress(OSError):
                entry.file.unlink()


# The cache of this process; None if it has none.
_cache: ObjectCache | None = None


def use_cache(folder: Path, limit: int) -> None:
    """Cache objects that this process reads in ``folder``; with a ``limit`` of 0, do not."""
    global _cache
    if _cache is not None:
        _cache.clear()
    _cache = ObjectCache(folder, limit) if limit > 0 else None


def read_object(path: S3Path) -> memoryview:
    """Read an object, from the cache if the store confirms that it is unchanged.

    Raises FileNotFoundError if the object is absent.
    """
    cache = _cache
    entry = None if cache is None else cache.find(path)
    options = {"if_none_match": entry.version} if entry else {}
    try:
        with translate_s3_errors(str(path), "read"):
            response = obstore().get(connect(path.bucket), path.key, options=options)
            content = memoryview(response.bytes())
            version = str(response.meta["e_tag"])
    except Exception as error:
        if entry is None or type(error).__name__ != UNCHANGED:
            raise
        with suppress(OSError):  # another thread replaced the file, or the disk failed
            values = np.fromfile(entry.file, np.uint8)
            if len(values) == entry.size:
                return values.data
        forget(path)
        return read_object(path)
    if cache is not None:
        cache.keep(path, version, len(content), [content])
    return content


def read_range(path: S3Path, version: str, size: int, start: int, stop: int) -> memoryview:
    """Read bytes ``start`` to ``stop`` - 1 of an object that is read many times.

    ``version`` and ``size`` are those of the object when it was written. An object that fits in the
    cache is downloaded once; its later reads send no request.
    """
    cache = _cache
    if cache is None or not cache.takes(path, version, size):
        return path.read_part(start, stop).content
    entry = cache.find(path)
    if entry is None or entry.version != version:
        with translate_s3_errors(str(path), "read"):
            response = obstore().get(connect(path.bucket), path.key)
            found = str(response.meta["e_tag"]), int(response.meta["size"])
            entry = cache.keep(path, *found, response.stream(_STREAMED_BYTES), pinned=True)
    with suppress(OSError):
        if entry is not None:
            with entry.file.open("rb") as file:
                file.seek(start)
                content = file.read(stop - start)
            if len(content) == min(stop, size) - start:
                return memoryview(content)
    cache.forget(path)
    return path.read_part(start, stop).content


def forget(path: S3Path) -> None:
    """Remove an object from this process's cache, such as one whose content is damaged."""
    if _cache is not None:
        _cache.forget(path)
