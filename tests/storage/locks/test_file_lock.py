"""A file lock whose disk goes away: what fails then is worth a retry."""

import pytest

from srch_dist.errors import StorageError, StorageUnavailableError
from srch_dist.storage.locks.file_lock import hold_lock


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


def fail(folder, action):
    """Hold the lock of a folder, and fail after the action there."""
    with hold_lock(folder) as held:
        action(held)
        raise StorageError("a chunk is missing")


def test_a_failure_on_a_disk_that_vanished_is_an_outage(folder):
    with pytest.raises(StorageUnavailableError, match="run has vanished while it was in use"):
        fail(folder, lambda _: folder.rename(folder.with_name("elsewhere")))


def test_a_lost_lock_on_a_disk_that_vanished_is_an_outage(folder):
    def check(held):
        folder.rename(folder.with_name("elsewhere"))
        held._lost = not held._write(1)
        assert held._lost
        held.check()

    with pytest.raises(StorageUnavailableError, match="run has vanished while it was in use"):
        fail(folder, check)


def test_a_failure_on_a_disk_that_is_there_stays_as_it_is(folder):
    with pytest.raises(StorageError, match="a chunk is missing") as end:
        fail(folder, lambda _: None)
    assert type(end.value) is StorageError


def test_a_folder_that_the_command_removed_itself_has_not_vanished(folder):
    def remove(_):
        (folder / "lock.json").unlink()
        folder.rmdir()

    with pytest.raises(StorageError, match="a chunk is missing") as end:
        fail(folder, remove)
    assert type(end.value) is StorageError
