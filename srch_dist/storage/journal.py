"""Journal of an unfinished feature store, with one line per block of rows that is on disk.

```
.unfinished.json    owner file: fingerprint of the ingest that owns the store
.unfinished.jsonl   one line per block: the crc32 of the line's JSON, a space, and the JSON
```

Lines are only appended, so the total bytes written grow linearly with the number of blocks. A
partly written line ends the journal: the block of that line and all later blocks are written again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import open_own, read_manifest, write_manifest
from srch_dist.storage.durable import flush
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location

_OWNER, _LINES = ".unfinished.json", ".unfinished.jsonl"
# Minimum seconds between two flushes to disk; `settle` always flushes.
FLUSH_SECONDS = 1.0


class Journal:
    """Journal in the folder of a store. In an object store, only the owner file is written.

    Parameters
    ----------
    folder : folder or S3 location of the store.
    fingerprint : text that identifies the source and the options of the ingest. Only an ingest with
        the same fingerprint resumes. None: keep no journal.
    """

    def __init__(self, folder: Location, fingerprint: str | None) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self._waiting: list[bytes] = []
        self._flushed = float("-inf")
        self._file: BinaryIO | None = None

    def start(self) -> None:
        """Write the owner file, which holds the fingerprint, before any other file of the store."""
        if self._fingerprint is not None:
            write_manifest(self._folder / _OWNER, {"fingerprint": self._fingerprint})

    def belongs(self) -> bool:
        """Whether the folder holds an unfinished store that was started with this fingerprint.

        True also for a folder that contains only a partly written journal.
        """
        if self._fingerprint is None:
            return False
        owner = self._folder / _OWNER
        try:
            return bool(read_manifest(owner).get("fingerprint") == self._fingerprint)
        except StorageError:
            if not isinstance(self._folder, Path) or not self._folder.is_dir():
                return False
            # The earlier ingest ended while it wrote the owner file or the file's partial version.
            names = {entry.name for entry in self._folder.iterdir()}
            if all(name == _OWNER or name.startswith(f".{_OWNER}.") for name in names):
                return True
            if owner.exists():
                raise
            return False

    def append(self, record: Mapping[str, Any]) -> None:
        """Record a written block; a line for it is kept in memory for about `FLUSH_SECONDS`."""
        if self._fingerprint is None or not isinstance(self._folder, Path):
            return
        text = json.dumps(record).encode()
        self._waiting.append(b"%08x %b\n" % (zlib.crc32(text), text))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.settle()

    def settle(self) -> None:
        """Flush the blocks to disk; then append their lines to the file.

        Raises StorageError if the disk fails.
        """
        if not self._waiting or not isinstance(self._folder, Path):
            return
        flush(self._folder)
        path = self._folder / _LINES
        try:
            if self._file is None:
                self._file = open_own(path, "ab")
            self._file.write(b"".join(self._waiting))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_error("write", path, error) from None
        self._waiting, self._flushed = [], time.monotonic()

    def read(self) -> list[dict[str, Any]]:
        """Read the recorded blocks in order; truncate the file at the first partly written line."""
        path = self._folder / _LINES
        if not isinstance(path, Path) or not path.exists():
            return []
        records, whole = [], 0
        try:
            with open_own(path, "r+b") as file:
                for line in file:
                    record = _parse(line)
                    if record is None:
                        break
                    records.append(record)
                    whole += len(line)
                file.truncate(whole)
        except OSError as error:
            raise storage_error("read", path, error) from None
        return records

    def close(self) -> None:
        """Close the file ``.unfinished.jsonl``."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove the journal of a finished store; the owner file is removed last."""
        self.close()
        if self._fingerprint is not None:
            (self._folder / _LINES).unlink(missing_ok=True)
            (self._folder / _OWNER).unlink(missing_ok=True)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse the record in a line; None if the line is incomplete or damaged."""
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None
