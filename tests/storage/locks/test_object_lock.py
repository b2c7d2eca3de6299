"""Which lock a writer recognises as its own; tests/faults has locks of a real server."""

import json

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage.locations import S3Path
from srch_dist.storage.locks.object_lock import ObjectLock

PLACE = S3Path("some-bucket", "runs/a")


class Deaf:
    """An object whose server writes without confirming it."""

    def __init__(self, **changes) -> None:
        self._changes = changes

    def put_if(self, content, _version):
        self._content = json.dumps({**json.loads(content), **self._changes}).encode() + b"\n"

    def read_version(self):
        return self._content, "version 1"


def test_lock_whose_writing_was_not_confirmed_is_held():
    lock = ObjectLock(PLACE, Deaf())
    lock._acquire()
    assert lock._version == "version 1"


def test_lock_of_another_writer_in_this_process_is_respected():
    with pytest.raises(StorageError, match=r"runs/a is in use by another run \(process"):
        ObjectLock(PLACE, Deaf(token="another"))._acquire()
