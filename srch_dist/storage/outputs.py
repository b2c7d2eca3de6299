"""Outputs, checked before the work that makes them: a refusal after hours of work helps nobody."""

from __future__ import annotations

import os
from pathlib import Path

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import is_stream
from srch_dist.storage.locations import Location, check_access

# Bytes of one part of a path that file systems take, and what the names of partial files add.
_NAME_BYTES, _PARTIAL_BYTES = 255, 32


def check_new(place: Location) -> Location:
    """Refuse a place that already exists, or that cannot be written; returns the place.

    A device or a pipe is there to be written.

    Raises
    ------
    StorageError : with the place, the reason and what to do.
    """
    if is_stream(place):
        return place
    check_writable(place)
    if place.exists():
        raise StorageError(f"{place} already exists. Remove it, or choose another output.")
    return place


def check_file(path: Location) -> Location:
    """Refuse a file that cannot be written or replaced, or whose folder is missing.

    Raises
    ------
    StorageError : with the file, the reason and what to do.
    """
    if is_stream(path):
        return path
    if isinstance(path, Path):
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder. Name a file.")
        if not path.parent.exists():
            raise StorageError(f"cannot write {path}: its folder does not exist. Create it.")
    return check_writable(path)


def check_folder(path: Path) -> Path:
    """Refuse a folder that cannot be created or written in; an existing one may hold files.

    Raises
    ------
    StorageError : with the folder, the reason and what to do.
    """
    check_writable(path)
    if path.exists():
        if not path.is_dir():
            raise StorageError(f"cannot write {path}: it is a file. Name a folder.")
        _refuse_read_only(path, path)
    return path


def check_writable(place: Location) -> Location:
    """Refuse a place where nothing can be created; an S3 store is asked.

    Raises
    ------
    StorageError : with the place, the reason and what to do.
    """
    if not isinstance(place, Path):
        check_access(place, write=True)
        return place
    if len(os.fsencode(place.name)) > _NAME_BYTES - _PARTIAL_BYTES:
        raise StorageError(
            f"cannot write {place}: its name has {len(os.fsencode(place.name))} bytes, expected at "
            f"most {_NAME_BYTES - _PARTIAL_BYTES}. Name a shorter one."
        )
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise StorageError(f"cannot write {place}: {above} is a file. Name another place.")
    _refuse_read_only(place, above)
    return place


def _refuse_read_only(place: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            f"cannot write {place}: {folder} is read-only for this user. Name another place, or "
            "change its permissions."
        )
