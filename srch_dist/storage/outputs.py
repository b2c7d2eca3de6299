"""Check that outputs can be written, before the work, which may take hours, starts."""

from __future__ import annotations

import os
from pathlib import Path

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import is_stream
from srch_dist.storage.locations import Location, check_access

# Bytes of one part of a path that file systems take, and what the names of partial files add.
_NAME_BYTES, _PARTIAL_BYTES = 255, 32


def check_new(place: Location) -> Location:
    """Raise an error if a new output already exists or cannot be written; return ``place``.

    A device or a pipe may exist.

    Raises
    ------
    StorageError : the message names the place, the reason and what to do.
    """
    if is_stream(place):
        return place
    check_writable(place)
    if place.exists():
        raise StorageError(f"{place} already exists. Remove it, or choose another output.")
    return place


def check_file(path: Location) -> Location:
    """Raise an error if a file cannot be written or replaced, or its folder is missing.

    Returns ``path``.

    Raises
    ------
    StorageError : the message names the file, the reason and what to do.
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
    """Raise an error if a folder cannot be created or files in it cannot be written.

    The folder may already exist and hold files. Returns ``path``.

    Raises
    ------
    StorageError : the message names the folder, the reason and what to do.
    """
    check_writable(path)
    if path.exists():
        if not path.is_dir():
            raise StorageError(f"cannot write {path}: it is a file. Name a folder.")
        _refuse_read_only(path, path)
    return path


def check_writable(place: Location) -> Location:
    """Raise an error if a file or folder cannot be created at ``place``; return ``place``.

    For an S3 location, sends test requests to the server; see `check_access`.

    Raises
    ------
    StorageError : the message names the place, the reason and what to do.
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
