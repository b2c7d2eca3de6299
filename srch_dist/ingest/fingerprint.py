"""Identify the files of a source, so that an ingest resumes only with the same files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from srch_dist.errors import InputError
from srch_dist.storage.locations import Location

T = TypeVar("T")

# Endings of log and note files, which may grow while the ingest reads the data.
_NOTES = (".log", ".txt", ".md")


class SourceFiles:
    """The files of a source, as they were when the ingest started.

    Parameters
    ----------
    paths : files and folders of the source.
    store : location of the store to write. Files in the store are not part of the source.
    """

    def __init__(self, paths: Sequence[Path], store: Location) -> None:
        files = {file for path in paths for file in _files(path)}
        self._identities = {
            file: _identity(file) for file in sorted(files) if not _is_below(file, store)
        }
        self._ways = {way: way.lstat() for way in sorted(_ways(paths, self._identities))}

    def fingerprint(self, layout: Mapping[str, Any], rows_per_chunk: int) -> str:
        """Compute a SHA-256 that identifies an ingest: its files, its arrays and its chunk size.

        Parameters
        ----------
        layout : for each stored array, by name: the array's name in the source, shape and dtype.
        """
        stats = list(self._identities.values())
        content = json.dumps([stats, dict(layout), rows_per_chunk], default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def check_unchanged(self) -> None:
        """Check that the source is as it was at the start.

        Raises
        ------
        InputError : a file was changed, replaced or removed; or a link or a folder in the path of a
            file was exchanged, even if a second exchange restored the original.
        """
        for file, identity in self._identities.items():
            _refuse_change(file, _was_changed, identity)
        for way, before in self._ways.items():
            _refuse_change(way, _was_exchanged, before)


def _refuse_change(path: Path, was_changed: Callable[[Path, T], bool], before: T) -> None:
    """Raise InputError if a path is gone, or if ``was_changed(path, before)``."""
    try:
        changed = was_changed(path, before)
    except OSError:
        changed = True
    if changed:
        raise InputError(
            f"{path} changed while it was read. Ingest again when no program writes to it."
        )


def _identity(file: Path) -> list[Any]:
    """Return a file's path, resolved path, inode, size, modification time, status change time.

    A program can set back the modification time of a changed file, but not the status change time.
    """
    at = file.stat()
    times = [at.st_mtime_ns, at.st_ctime_ns]
    return [str(file.absolute()), str(file.resolve()), at.st_ino, at.st_size, *times]


def _was_changed(file: Path, before: list[Any]) -> bool:
    """Whether a file was changed or replaced; always False for files with endings in ``_NOTES``."""
    return file.suffix not in _NOTES and _identity(file) != before


def _was_exchanged(way: Path, before: os.stat_result) -> bool:
    """Whether a link or folder was replaced or renamed.

    Renaming a folder sets only the folder's status change time. Adding or removing a file in the
    folder is allowed, and also sets the folder's modification time. A link cannot be changed, only
    replaced. A mount point, such as the root folder, cannot be renamed.
    """
    now = way.lstat()
    if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
        return True
    if os.path.ismount(way):
        return False
    renamed = now.st_ctime_ns != before.st_ctime_ns
    return renamed and (stat.S_ISLNK(now.st_mode) or now.st_mtime_ns == before.st_mtime_ns)


def _ways(paths: Sequence[Path], files: Iterable[Path]) -> set[Path]:
    """List the links and folders that lead to the files, from the root of the file system."""
    ends = {*paths, *(file for file in files if file.is_symlink())}
    # Files of one folder share the folder's path; a Zarr source has thousands of files.
    ends |= {file.parent for file in files}
    places = {place for end in ends for place in (end.absolute(), end.resolve())}
    above = {folder for place in places for folder in place.parents}
    return above | {place for place in places if place.is_symlink() or place.is_dir()}


def _is_below(file: Path, store: Location) -> bool:
    """Whether a file lies in the folder ``store``, or is the store's lock or partial file."""
    if not isinstance(store, Path):
        return False
    beside = file.parent == store.parent and file.name.startswith(f".{store.name}.")
    return beside or store in file.parents


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
