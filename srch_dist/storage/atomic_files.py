"""Atomic, power-loss-safe writes of files, and manifests that contain their own checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TypeVar, cast

from srch_dist.errors import StorageError
from srch_dist.storage.durable import flush, flush_file, flush_folder, make_folder
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, S3Path

CRC = "crc32"

P = TypeVar("P", bound=Location)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file for new content; at the end of the block, the file replaces ``path``.

    A reader finds the complete old content or the complete new content, also after a power loss. If
    the block raises, ``path`` is unchanged. A device or a pipe, such as ``/dev/stdout``, is not
    replaced: it receives the new content.

    Raises
    ------
    StorageError : the file cannot be written.
    """
    if is_stream(path):
        try:
            with TemporaryDirectory(prefix="srch-dist-") as folder:
                content = Path(folder) / path.name
                content.touch()
                yield content
                _copy_to_stream(content, path)
        except OSError as error:
            raise storage_error("write", path, error) from None
        return
    partial: Path | None = None
    try:
        make_folder(path.parent)
        partial = create_partial(path)
        yield partial
        flush_file(partial)
        partial.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from None
    finally:
        # On a disk that has vanished this fails too; the first error is the one to report.
        with suppress(OSError):
            if partial is not None:
                partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder; it gets the name ``path`` at the end of the block.

    ``path`` must not exist. If the block raises, nothing is left.

    Raises
    ------
    StorageError : the folder cannot be written.
    """
    partial = partial_name(path)
    try:
        make_folder(path.parent)
        partial.mkdir()
        yield partial
        flush(partial)
        partial.rename(path)
        flush_folder(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_name(path: P) -> P:
    """Return a path beside ``path`` for content that is still being written.

    On a disk the name is random, so that no attacker can put a link there. In an object store,
    which has no links, the name is fixed, so that the next process replaces the object of a killed
    process.
    """
    if isinstance(path, S3Path):
        return cast(P, path.parent / f".{path.name}.partial")
    return cast(P, path.with_name(f"{_partial_prefix(path)}{secrets.token_hex(8)}.partial"))


def create_partial(path: Path) -> Path:
    """Create and return an empty file named by `partial_name`; raise OSError if that fails."""
    partial = partial_name(path)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return partial


def open_own(path: Path, mode: str) -> BinaryIO:
    """Open a working file of this package; raise OSError if the path is a link."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    # Path.open takes no opener.
    return cast(BinaryIO, open(path, mode, opener=opener))


def remove_partials(path: Path) -> None:
    """Remove the partial files for ``path`` that killed processes left behind.

    The caller must hold the lock of ``path``.
    """
    pattern = re.compile(re.escape(_partial_prefix(path)) + r"[0-9a-f]{16}\.partial")
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        if not pattern.fullmatch(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink(missing_ok=True)


def is_stream(path: Location) -> bool:
    """Whether a path is a device, pipe or socket, or leads into /proc as /dev/stdout does."""
    if not isinstance(path, Path):
        return False
    try:
        mode = path.stat().st_mode
        # /dev/stdout is a link to /proc/self/fd/1, which may be open on a regular file.
        link = str(path.readlink() if path.is_symlink() else path.parent.resolve())
    except OSError:
        return False
    return link.startswith("/proc/") or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_bytes(path: Location, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new content.

    Raises
    ------
    StorageError : the file cannot be written.
    """
    if isinstance(path, S3Path):
        path.write_bytes(content)
        return
    with replacing(path) as partial:
        partial.write_bytes(content)


def read_bytes(path: Location) -> bytes:
    """Read a file; if that fails, raise a StorageError that names the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error("read", path, error) from None


def write_text(path: Location, text: str) -> None:
    """Replace a text file atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Location, value: Any) -> None:
    """Write a value as indented JSON; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Location) -> Any:
    """Read a JSON file; if that fails, raise a StorageError that names the file."""
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, path: Location) -> Any:
    """Parse the content of the JSON file ``path``; if that fails, raise StorageError."""
    try:
        return json.loads(decode_text(content))
    except UnicodeDecodeError:
        raise StorageError(
            f"{path} is damaged: it is not JSON text. Restore the file from a copy."
        ) from None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"cannot read {path}: {error}") from None


def decode_text(content: bytes) -> str:
    """Decode UTF-8 text; raise UnicodeDecodeError for other bytes, also for NUL.

    A file system can fill a file with NUL after a crash. `json.loads` takes those bytes for UTF-32.
    """
    if (place := content.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", content, place, place + 1, "NUL")
    return content.decode()


def write_manifest(path: Location, values: Mapping[str, Any]) -> None:
    """Write a manifest: JSON with a crc32 of its values."""
    write_json(path, {**values, CRC: _checksum(values)})


def read_manifest(path: Location) -> dict[str, Any]:
    """Read a manifest; raise StorageError if the values do not match the stored checksum."""
    return check_manifest(read_json(path), path)


def check_manifest(content: Any, path: Location, remedy: str = "") -> dict[str, Any]:
    """Return the values of a manifest; raise StorageError if the manifest's checksum is wrong.

    The message ends with ``remedy``, a sentence on what to do.
    """
    if not isinstance(content, dict):
        raise StorageError(f"{path} is damaged: it is not a JSON object")
    values: dict[str, Any] = dict(content)
    expected = values.pop(CRC, None)
    if expected != _checksum(values):
        fault = f"{path} is damaged: it does not match its own checksum"
        raise StorageError(f"{fault}. {remedy}" if remedy else fault)
    return values


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _partial_prefix(path: Path) -> str:
    # A file name has at most 255 bytes; the suffix needs 25 of them.
    name = path.name
    if len(os.fsencode(name)) > 200:
        name = hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return f".{name}."


def _copy_to_stream(content: Path, path: Path) -> None:
    with content.open("rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
