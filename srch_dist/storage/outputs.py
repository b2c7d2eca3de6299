"""Check that outputs can be written, before hours of work start."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import is_stream, parse_json, read_bytes
from srch_dist.storage.locations import Location, check_access

# Maximum bytes of a file name on most file systems, and bytes that the name of a partial file adds.
_NAME_BYTES, _PARTIAL_BYTES = 255, 32


@dataclass(frozen=True)
class OutputKind:
    """Kind of output file. A command replaces an existing file only by a file of the same kind.

    Attributes
    ----------
    name : name of the kind in messages, such as "report page".
    recognises : function of a file's path and content that says whether the file has this kind.
    """

    name: str
    recognises: Callable[[Location, bytes], bool]


def json_kind(name: str, *keys: str) -> OutputKind:
    """Return the kind of files that hold a JSON object with all ``keys``."""

    def recognises(path: Location, content: bytes) -> bool:
        try:
            value = parse_json(content, path)
        except StorageError:
            return False
        return isinstance(value, dict) and set(keys) <= set(value)

    return OutputKind(name, recognises)


def check_new(place: Location) -> Location:
    """Raise an error if ``place`` already exists or cannot be written; return ``place``.

    A device or a pipe may already exist.

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


def check_file(path: Location, kind: OutputKind | None = None) -> Location:
    """Raise an error if a file cannot be written or replaced, or its folder is missing.

    If ``kind`` is given, an existing file must be empty or of this kind. Returns ``path``.

    Raises
    ------
    StorageError : the message names the file, the reason and what to do.
    """
    if is_stream(path):
        return path
    if isinstance(path, Path):
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder. Give a file.")
        if not path.parent.exists():
            raise StorageError(
                f"cannot write {path}: its folder does not exist. Create the folder."
            )
    check_writable(path)
    if kind is not None:
        _refuse_other_kind(path, kind)
    return path


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
            raise StorageError(f"cannot write {path}: it is a file. Give a folder.")
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
            f"most {_NAME_BYTES - _PARTIAL_BYTES}. Give a shorter name."
        )
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise StorageError(f"cannot write {place}: {above} is a file. Choose another location.")
    _refuse_read_only(place, above)
    return place


def _refuse_other_kind(path: Location, kind: OutputKind) -> None:
    exists = path.exists() if isinstance(path, Path) else path.size() is not None
    content = read_bytes(path) if exists else b""
    if content and not kind.recognises(path, content):
        raise StorageError(
            f"{path} exists and is no {kind.name}. Remove the file, or choose another file."
        )


def _refuse_read_only(place: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            f"cannot write {place}: {folder} is read-only for this user. Choose another "
            "location, or change the permissions of the folder."
        )
