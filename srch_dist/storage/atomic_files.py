"""Files written in one step (bytes, text, JSON), and manifests that carry their own checksum."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from srch_dist.errors import StorageError
from srch_dist.storage.locations import Location, S3Path

_CRC = "crc32"


def write_bytes(path: Location, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new one.

    Raises
    ------
    StorageError : the file cannot be written.
    """
    if isinstance(path, S3Path):
        path.write_bytes(content)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        # On a disk that has vanished this fails too; the first error is the one to report.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def read_bytes(path: Location) -> bytes:
    """Read a file; raises StorageError with its name."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None


def write_text(path: Location, text: str) -> None:
    """Replace a text file in one step; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Location, value: Any) -> None:
    """Write a value as indented JSON; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Location) -> Any:
    """Read a JSON file; raises StorageError with its name."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"cannot read {path}: {error}") from None


def write_manifest(path: Location, values: Mapping[str, Any]) -> None:
    """Write a manifest: JSON with a crc32 of its values."""
    write_json(path, {**values, _CRC: _checksum(values)})


def read_manifest(path: Location) -> dict[str, Any]:
    """Read a manifest; raises StorageError if it does not match its checksum."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise StorageError(f"{path} is damaged: it is not a manifest")
    expected = values.pop(_CRC, None)
    if expected != _checksum(values):
        raise StorageError(f"{path} is damaged: it does not match its own checksum")
    return values


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
