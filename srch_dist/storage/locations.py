"""Locations of stores: local paths, and places in an S3 store, reached through obstore.

Every process reads endpoint, region and credentials from its environment. A location holds none of
them, so it can be recorded, printed and sent to workers.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srch_dist.errors import StorageError
from srch_dist.storage.s3 import (
    PROBE_SECONDS,
    UNMET,
    connect,
    is_answer,
    obstore,
    reason,
    translate_s3_errors,
)

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, order=True)
class S3Path:
    """A place in an S3 store, with the part of `pathlib.Path` that stores need.

    Attributes
    ----------
    bucket, key : as in ``s3://bucket/key``; the key has no slash at either end.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> S3Path:
        return S3Path(self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> S3Path:
        """The place one level up."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def size(self) -> int | None:
        """Bytes of the object; None if it is absent."""
        try:
            with translate_s3_errors(str(self), "read"):
                return int(obstore().head(connect(self.bucket), self.key)["size"])
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Whether this object, or any object below this place, exists."""
        return self.size() is not None or next(self.files(), None) is not None

    def files(self) -> Iterator[S3Path]:
        """The objects below this place."""
        with translate_s3_errors(str(self), "list"):
            for batch in obstore().list(connect(self.bucket), prefix=f"{self.key}/"):
                for entry in batch:
                    yield S3Path(self.bucket, entry["path"])

    def read_bytes(self) -> bytes:
        """The object's content; raises FileNotFoundError if it is absent."""
        return self.read_version()[0]

    def read_version(self) -> tuple[bytes, str]:
        """The object's content and the ETag of this version."""
        with translate_s3_errors(str(self), "read"):
            response = obstore().get(connect(self.bucket), self.key)
            return bytes(response.bytes()), str(response.meta["e_tag"])

    def write_bytes(self, content: bytes | Path) -> None:
        """Replace the object by bytes, or by the content of a local file, in one step."""
        with translate_s3_errors(str(self), "write"):
            obstore().put(connect(self.bucket), self.key, content)

    def put_if(self, content: bytes, version: str | None) -> str | None:
        """Write if the object has this ETag, or for None if it is absent.

        Returns the new ETag, or None if the condition does not hold.
        """
        mode: Any = "create" if version is None else {"e_tag": version}
        try:
            with translate_s3_errors(str(self), "write"):
                store = connect(self.bucket, PROBE_SECONDS)
                return str(obstore().put(store, self.key, content, mode=mode)["e_tag"])
        except Exception as error:
            if type(error).__name__ in UNMET:
                return None
            raise

    def copy(self, target: S3Path) -> None:
        """Copy the object on the server, within its bucket."""
        with translate_s3_errors(str(target), "write"):
            obstore().copy(connect(self.bucket), self.key, target.key)

    def remove(self) -> None:
        """Remove the object and every object below this place."""
        keys = [path.key for path in self.files()]
        with translate_s3_errors(str(self), "remove"):
            obstore().delete(connect(self.bucket), [*keys, self.key])

    def unlink(self, missing_ok: bool = True) -> None:  # noqa: ARG002 - as in Path
        """Remove the object; S3 does not say whether it existed."""
        with translate_s3_errors(str(self), "remove"):
            obstore().delete(connect(self.bucket), self.key)


Location = Path | S3Path


def locate(location: str | Path | S3Path) -> Location:
    """Parse the location of a store: a path, a ``file://`` or an ``s3://BUCKET/KEY`` URL.

    Raises
    ------
    StorageError : the text is empty, another kind of URL, or lacks a valid bucket or key.
    """
    if isinstance(location, S3Path):
        return location
    text = str(location)
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
        # The message does not repeat the text, which may hold a secret. A secret may contain
        # slashes, so "@" can be missing here; a bucket never has a colon.
        if "@" in bucket or ":" in bucket:
            raise StorageError(
                "credentials do not belong in an s3:// URL; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        parts = key.rstrip("/").split("/")
        if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"{text}: write s3://BUCKET/KEY")
        return S3Path(bucket, "/".join(parts))
    return local_path(location)


def local_path(location: str | Path | S3Path) -> Path:
    """Parse a local path or ``file://`` URL into an absolute path; raises StorageError."""
    text = str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise StorageError(f"{location}: only local paths and file:// are supported here")
    if not text:
        raise StorageError("the path of a store is empty")
    # Workers have working directories of their own.
    return Path(text).absolute()


def check_access(path: Location, write: bool = False) -> None:
    """Check within `PROBE_SECONDS` that an S3 store can be listed and, for ``write``, written.

    A local path is not checked.

    Raises
    ------
    StorageError : no answer, wrong credentials, no such bucket or no permission, in one line.
    """
    if isinstance(path, Path):
        return
    store, library = connect(path.bucket, PROBE_SECONDS), obstore()
    with translate_s3_errors(str(path), "list"):
        next(iter(library.list(store, prefix=f"{path.key}/")), None)
    if write:
        probe = f"{path.parent.key}/.probe-{uuid.uuid4().hex}".lstrip("/")
        with translate_s3_errors(str(path), "write"):
            library.put(store, probe, b"")
        with translate_s3_errors(str(path), "remove"):
            library.delete(store, probe)


def move(path: Location, target: Location) -> None:
    """Move an array; it can be opened at ``target`` only when it is complete there."""
    if isinstance(path, Path):
        path.rename(Path(str(target)))
        return
    assert isinstance(target, S3Path)
    # Objects cannot be renamed: the server copies them, zarr.json, which opens the array, last.
    for file in sorted(path.files(), key=lambda file: file.name == "zarr.json"):
        file.copy(S3Path(target.bucket, target.key + file.key.removeprefix(path.key)))
    path.remove()


def stored_bytes(*folders: Path) -> int:
    """Bytes of all files below folders; links are followed, each file counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for folder in folders:
        for above, _, names in os.walk(folder, followlinks=True):
            for name in names:
                with suppress(OSError):  # removed meanwhile, or a broken link
                    stat = Path(above, name).stat()
                    sizes[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(sizes.values())


@contextmanager
def writing(path: Location) -> Iterator[None]:
    """Turn errors of writing at a location into StorageErrors."""
    try:
        yield
    except Exception as error:
        if isinstance(path, S3Path) and is_answer(error):
            raise StorageError(f"cannot write {path}: {reason(error, str(path))}") from None
        if not isinstance(error, OSError):
            raise
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
