"""Identify the files of a source, so that an ingest resumes only with the same files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def source_fingerprint(
    paths: Sequence[Path], layout: Mapping[str, Any], rows_per_chunk: int
) -> str:
    """Compute a SHA-256 that identifies an ingest: its files, its arrays and its chunk size.

    The hash covers each file's path, resolved path, inode, size and modification time, but not its
    content. So a link that now points to another file changes the hash.

    Parameters
    ----------
    paths : files and folders of the source.
    layout : by name of the stored array: name of the array in the source, shape and dtype.
    """
    stats = sorted(_identity(file) for path in paths for file in _files(path))
    content = json.dumps([stats, dict(layout), rows_per_chunk], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _identity(file: Path) -> list[Any]:
    at = file.stat()
    return [str(file.absolute()), str(file.resolve()), at.st_ino, at.st_size, at.st_mtime_ns]


def _files(path: Path) -> Iterator[Path]:
    """Yield the regular files at and below a path; follows links, and visits each folder once."""
    if path.is_file():
        yield path
        return
    seen: set[tuple[int, int]] = set()
    for above, folders, names in os.walk(path, followlinks=True):
        at = Path(above).stat()
        if (at.st_dev, at.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add((at.st_dev, at.st_ino))
        yield from (file for name in names if (file := Path(above, name)).is_file())
