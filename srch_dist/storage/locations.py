"""Where stores lie: local paths, and objects of an S3 store, which are reached through obstore.

Endpoint, region and credentials come from the environment, on every process that reads or writes;
a location holds none of them, so it may be recorded, printed and sent to workers.
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
    """A place in an S3 store, with those operations of a path that stores need.

    Attributes
    ----------
    bucket, key : as in ``s3://bucket/key``; the key has no slash at its ends.
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
        """The ending of the name, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> S3Path:
        """The place that this one is in."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def size(self) -> int | None:
        """Bytes of the object; None where there is none."""
        try:
            with translate_s3_errors(str(self), "read"):
                return int(obstore().head(connect(self.bucket), self.key)["size"])
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Whether an object is here, or any below."""
        return self.size() is not None or next(self.files(), None) is not None

    def files(self) -> Iterator[S3Path]:
        """The objects below this place."""
        with translate_s3_errors(str(self), "list"):
            for batch in obstore().list(connect(self.bucket), prefix=f"{self.key}/"):
                for found in batch:
                    yield S3Path(self.bucket, found["path"])

    def read_bytes(self) -> bytes:
        """The object's content; raises FileNotFoundError where there is none."""
        return self.read_version()[0]

    def read_version(self) -> tuple[bytes, str]:
        """The object's content, and the tag of this version of it."""
        with translate_s3_errors(str(self), "read"):
            found = obstore().get(connect(self.bucket), self.key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def write_bytes(self, content: bytes | Path) -> None:
        """Replace the object by content or by that of a local file, in one step."""
        with translate_s3_errors(str(self), "write"):
            obstore().put(connect(self.bucket), self.key, content)

    def put_if(self, content: bytes, version: str | None) -> str | None:
        """Write if the object is of a version, or absent for None; the new tag, or None if not."""
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
        """Copy the object within its bucket, on the server."""
        with translate_s3_errors(str(target), "write"):
            obstore().copy(connect(self.bucket), self.key, target.key)

    def remove(self) -> None:
        """Remove the object and all below."""
        keys = [path.key for path in self.files()]
        with translate_s3_errors(str(self), "remove"):
            obstore().delete(connect(self.bucket), [*keys, self.key])

    def unlink(self, missing_ok: bool = True) -> None:  # noqa: ARG002 - as of a path
        """Remove the object; S3 does not say whether it was there."""
        with translate_s3_errors(str(self), "remove"):
            obstore().delete(connect(self.bucket), self.key)


Location = Path | S3Path


def locate(location: str | Path | S3Path) -> Location:
    """The location of a store given by path, ``file://`` or ``s3://`` URL.

    Raises
    ------
    StorageError : it is empty, of another kind, or no bucket and key.
    """
    if isinstance(location, S3Path):
        return location
    text = str(location)
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
        # Their text may hold a secret; secrets have slashes too, and no bucket has a colon.
        if "@" in bucket or ":" in bucket:
            raise StorageError("credentials do not belong into an s3:// URL; set AWS_ACCESS_KEY_ID")
        parts = key.rstrip("/").split("/")
        if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"{text}: write s3://BUCKET/KEY")
        return S3Path(bucket, "/".join(parts))
    return local_path(location)


def local_path(location: str | Path | S3Path) -> Path:
    """The local path of a store given by path or ``file://`` URL; raises StorageError."""
    text = str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise StorageError(f"{location}: only local paths and file:// are supported here")
    if not text:
        raise StorageError("an empty path was given for a store")
    # Workers have working directories of their own.
    return Path(text).absolute()


def check_access(path: Location, write: bool = False) -> None:
    """Ask an S3 store for a list, and write and remove a probe, with little patience.

    Raises
    ------
    StorageError : no answer, wrong credentials, no such bucket, no right; in one line.
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
    """Give an array another place, where it is whole once anything of it can be opened."""
    if isinstance(path, Path):
        path.rename(Path(str(target)))
        return
    assert isinstance(target, S3Path)
    # Objects have no new names; they are copied by the server, the one to open it by as the last.
    for file in sorted(path.files(), key=lambda file: file.name == "zarr.json"):
        file.copy(S3Path(target.bucket, target.key + file.key.removeprefix(path.key)))
    path.remove()


def stored_bytes(*folders: Path) -> int:
    """Bytes of all files in folders, followed through links, each file once."""
    sizes: dict[tuple[int, int], int] = {}
    for folder in folders:
        for above, _, names in os.walk(folder, followlinks=True):
            for name in names:
                with suppress(OSError):  # gone meanwhile, or a link to nothing
                    found = Path(above, name).stat()
                    sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())


@contextmanager
def writing(path: Location) -> Iterator[None]:
    """Say what went wrong in writing at a location."""
    try:
        yield
    except Exception as error:
        if isinstance(path, S3Path) and is_answer(error):
            raise StorageError(f"cannot write {path}: {reason(error, str(path))}") from None
        if not isinstance(error, OSError):
            raise
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
