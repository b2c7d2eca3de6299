"""Space of a disk: refusals with both numbers, and maps that never outgrow their disk."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest

from srch_dist.errors import StorageError
from srch_dist.storage import disk_space
from srch_dist.storage.disk_space import check_space, create_map
from srch_dist.storage.locations import locate


def test_both_numbers_are_named_and_written_bytes_count(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    check_space(tmp_path / "new" / "a", 100, "the export")
    with pytest.raises(StorageError, match=rf"needs 101 bytes, but the disk of {tmp_path} has 100"):
        check_space(tmp_path / "new" / "a", 101, "the export")
    check_space(tmp_path / "a", 150, "the store", stored=50)
    check_space(locate("s3://bucket/key"), 1 << 60, "the store")


def test_a_map_has_its_space_before_it_is_written(tmp_path):
    values = create_map(tmp_path / "a", np.dtype(np.float32), (300, 7))
    assert (tmp_path / "a").stat().st_blocks * 512 >= 300 * 7 * 4
    values[:] = 3
    values.flush()
    assert (np.fromfile(tmp_path / "a", np.float32) == 3).all()


def test_a_map_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"cannot write .*a: No space left on device"):
        create_map(tmp_path / "a", np.dtype(np.uint8), (10, 10))


def test_file_systems_that_cannot_reserve_are_written_all_the_same(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert create_map(tmp_path / "a", np.dtype(np.uint8), (10, 10)).shape == (10, 10)
