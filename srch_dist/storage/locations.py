"""Locations of stores: local paths and S3 keys. The library obstore reads and writes S3.

Every process reads endpoint, region and credentials from its own environment. A location contains
no credentials, so it can be recorded, printed and sent to workers.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from srch_dist.errors import StorageError
from srch_dist.storage.failures import storage_error, translate_s3_errors
from srch_dist.storage.s3 import PROBE_SECONDS, UNMET, connect, is_answer, obstore

NO_WORKING_FOLDER = (
    "the working folder of this process was removed. Change to a folder that exists, with cd."
)
# Objects up to this size are uploaded in one request, larger ones in parts of `_PART_BYTES`.
_WHOLE_BYTES = 64 << 20
_PART_BYTES = 16 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class ObjectPart(NamedTuple):
    """Some bytes of an object, the size of the whole object, and its version (ETag)."""

    content: memoryview
    size: int
    version: str


@dataclass(frozen=True, order=True)
class S3Path:
    """A key in an S3 bucket, with the methods of `pathlib.Path` that stores use.

    Attributes
    ----------
    bucket, key : parts of ``s3://bucket/key``; the key has no slash at either end.
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
        """The file ending of the name, such as ``.npy``."""
        return Path(self.name).suffix

    @property
    def parent(self) -> S3Path:
        """The location one level up."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def size(self) -> int | None:
        """Return the size of the object in bytes; None if it is absent."""
        try:
            with translate_s3_errors(str(self), "read"):
                return int(obstore().head(connect(self.bucket), self.key)["size"])
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Whether this object, or any object below this key, exists."""
        return self.size() is not None or next(self.files(), None) is not None

    def files(self) -> Iterator[S3Path]:
        """Yield the objects below this key."""
        with translate_s3_errors(str(self), "list"):
            for batch in obstore().list(connect(self.bucket), prefix=f"{self.key}/"):
                for entry in batch:
                    yield S3Path(self.bucket, entry["path"])

    def iterdir(self) -> Iterator[S3Path]:
        """Yield the objects and the folders directly below this key."""
        with translate_s3_errors(str(self), "list"):
            found = obstore().list_with_delimiter(connect(self.bucket), f"{self.key}/")
        for key in (*found["common_prefixes"], *(entry["path"] for entry in found["objects"])):
            yield S3Path(self.bucket, key.rstrip("/"))

    def read_bytes(self) -> bytes:
        """Read the object; raise FileNotFoundError if it is absent."""
        return self.read_version()[0]

    def read_part(self, start: int, stop: int) -> ObjectPart:
        """Read bytes ``start`` to ``stop`` - 1 of the object, or to its end if that comes first.

        ``start`` must lie inside the object. Raises FileNotFoundError if the object is absent.
        """
        with translate_s3_errors(str(self), "read"):
            options = {"range": (start, stop)}
            response = obstore().get(connect(self.bucket), self.key, options=options)
            meta = response.meta
            content = memoryview(response.bytes())
            return ObjectPart(content, int(meta["size"]), str(meta["e_tag"]))

    def read_version(self) -> tuple[bytes, str]:
        """Read the object; return its content and the ETag of this version."""
        with translate_s3_errors(str(self), "read"):
            response = obstore().get(connect(self.bucket), self.key)
            return bytes(response.bytes()), str(response.meta["e_tag"])

    def write_bytes(self, content: bytes | bytearray | Path) -> None:
        """Replace the object atomically; ``content`` is bytes or the path of a local file."""
        # One request costs less than the parts of a multipart upload, which larger objects need.
        whole = not isinstance(content, Path) and len(content) <= _WHOLE_BYTES
        parts = {"use_multipart": False} if whole else {"chunk_size": _PART_BYTES}
        with translate_s3_errors(str(self), "write"):
            obstore().put(connect(self.bucket), self.key, content, **parts)

    def put_if(self, content: bytes, version: str | None) -> str | None:
        """Replace the object if its ETag is ``version``; if ``version`` is None, create an object.

        Returns the new ETag. Returns None, and writes nothing, if the ETag differs, or if an object
        exists and ``version`` is None.
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
        """Copy the object to ``target`` in the same bucket, on the server, without a download."""
        with translate_s3_errors(str(target), "write"):
            obstore().copy(connect(self.bucket), self.key, target.key)

    def remove(self) -> None:
        """Remove the object and every object below this key."""
        keys = [path.key for path in self.files()]
        with translate_s3_errors(str(self), "remove"):
            obstore().delete(connect(self.bucket), [*keys, self.key])

    def unlink(self, missing_ok: bool = True) -> None:  # noqa: ARG002 - as in Path
        """Remove the object. S3 does not report a missing object, so ``missing_ok`` is ignored."""
        with translate_s3_errors(str(self), "remove"):
            obstore().delete(connect(self.bucket), self.key)


Location = Path | S3Path


def locate(location: str | Path | S3Path) -> Location:
    """Parse the location of a store: a path, a ``file://`` URL or an ``s3://BUCKET/KEY`` URL.

    Raises
    ------
    StorageError : the text is empty, is another kind of URL, or has no valid bucket or key.
    """
    if isinstance(location, S3Path):
        return location
    text = str(location)
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
        # The message omits the text, which may contain a secret. A secret may contain slashes, so
        # "@" can be missing here. The name of a bucket never has a colon.
        if "@" in bucket or ":" in bucket:
            raise StorageError(
                "credentials do not belong in an s3:// URL; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        parts = key.rstrip("/").split("/")
        if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"{text} is no valid S3 URL; write s3://BUCKET/KEY")
        return S3Path(bucket, "/".join(parts))
    return local_path(location)


def local_path(location: str | Path | S3Path) -> Path:
    """Parse a local path or ``file://`` URL into an absolute path.

    Raises
    ------
    StorageError : the text is empty, is another kind of URL, or is no valid path.
    """
    text = str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise StorageError(f"{location}: only local paths and file:// URLs are supported")
    if not text:
        raise StorageError("the path of a store is empty; give a path or a URL")
    # Absolute, because each worker has its own working directory.
    try:
        path = Path(text).absolute()
        os.lstat(path)
    except FileNotFoundError:
        if not Path(text).is_absolute() and not _has_working_folder():
            raise StorageError(NO_WORKING_FOLDER) from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise StorageError(f"{text}: {error.strerror}. Choose another path.") from None
    except ValueError as error:  # a null character
        raise StorageError(f"{text!r} is no path: {error}") from None
    return path


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def is_file(path: Location) -> bool:
    """Whether a file or an object exists at ``path``; a folder does not count."""
    return path.is_file() if isinstance(path, Path) else path.size() is not None


def entries(folder: Location) -> list[Location]:
    """List the files and folders directly in ``folder``, by name; [] if it is absent."""
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except FileNotFoundError:
        return []


def check_access(path: Location, write: bool = False) -> None:
    """Check that this process can list an S3 location and, if ``write``, can write to it.

    The server has `PROBE_SECONDS` to answer. Does nothing for a local path.

    Raises
    ------
    StorageError : the server does not answer, the credentials are wrong, the bucket does not exist,
        or the permission is missing.
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
    """Move a Zarr array; readers can open ``target`` only after all chunks are there."""
    if isinstance(path, Path):
        path.rename(Path(str(target)))
        return
    assert isinstance(target, S3Path)
    # Objects cannot be renamed, so the server copies them. The metadata zarr.json is copied last.
    for file in sorted(path.files(), key=lambda file: file.name == "zarr.json"):
        file.copy(S3Path(target.bucket, target.key + file.key.removeprefix(path.key)))
    path.remove()


def stored_bytes(*folders: Location) -> int:
    """Sum the bytes of all files below the folders; follows links, and counts each file once.

    Objects of an object store do not count.
    """
    sizes: dict[tuple[int, int], int] = {}
    for folder in folders:
        if not isinstance(folder, Path):
            continue
        for above, _, names in os.walk(folder, followlinks=True):
            for name in names:
                with suppress(OSError):  # removed meanwhile, or a broken link
                    stat = Path(above, name).stat()
                    sizes[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(sizes.values())


@contextmanager
def writing(path: Location) -> Iterator[None]:
    """Convert errors raised in this context, while writing to ``path``, into StorageErrors."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or (isinstance(path, S3Path) and is_answer(error)):
            raise storage_error("write", path, error) from None
        raise
