"""What a writer takes for its own lock; locks of a real server are in tests/faults."""

import json

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage.locations import S3Path
from srch_dist.storage.locks import object_lock
from srch_dist.storage.locks.lease import Holder

PLACE = S3Path("some-bucket", "runs/a")


class Deaf:
    """A lock of which the writing was done, but never confirmed."""

    def __init__(self, **changes) -> None:
        self._changes = changes

    def put_if(self, content, _version):
        self._content = json.dumps({**json.loads(content), **self._changes}).encode() + b"\n"

    def read_version(self):
        return self._content, "version 1"


def test_lock_whose_writing_was_not_confirmed_is_held():
    assert object_lock._acquire(PLACE, Deaf(), Holder.here()) == "version 1"


def test_lock_of_another_writer_in_this_process_is_respected():
    with pytest.raises(StorageError, match="runs/a is in use by another run"):
        object_lock._acquire(PLACE, Deaf(token="another"), Holder.here())
