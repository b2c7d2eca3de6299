"""Scratch files in an object store: the same arrays as on a disk, read in ranges."""

from __future__ import annotations

import numpy as np
import pytest

from srch_dist.errors import StorageError
from srch_dist.storage.object_cache import use_cache
from srch_dist.storage.scratch import (
    each_spill,
    gather_spill,
    keep_runs,
    read_spill,
    spill_runs,
    write_spill,
)

RNG = np.random.default_rng(0)
LARGE = RNG.normal(size=(9000, 5))


@pytest.mark.parametrize(
    "values", [np.arange(12), LARGE, RNG.random((5, 0)), np.zeros((0, 3), "f4"), np.ones((4, 2, 3))]
)
def test_rows_are_those_that_were_written(bucket, values):
    write_spill(bucket, {"a": values})
    for start, stop in [(0, None), (2, 5), (3, 3), (0, 1), (7000, 7003), (0, 99_999)]:
        found = read_spill(bucket, "a", start, stop)
        np.testing.assert_array_equal(found, values[start:stop])
        assert found.dtype == values.dtype


def test_object_that_was_written_again_is_read_again(bucket):
    # Equal sizes, then a shorter one, whose end is before the rows of the one before.
    for shape in [(8, 3), (12, 2), (6, 4), (9000, 5), (9000, 1)]:
        values = RNG.random(shape)
        write_spill(bucket, {"a": values})
        for start in (1, len(values) - 2):
            rows = slice(start, start + 2)
            np.testing.assert_array_equal(read_spill(bucket, "a", start, start + 2), values[rows])


def test_folders_are_gathered_in_order(bucket):
    folders = [bucket / str(number) for number in range(20)]
    for number, folder in enumerate(folders):
        write_spill(folder, {"a": LARGE[100 * number : 100 * number + 100]})
    spans = [(number, number + number % 3) for number in range(20)]
    parts = [LARGE[100 * i + low : 100 * i + high] for i, (low, high) in enumerate(spans)]
    found = list(each_spill(folders, "a", spans))
    wanted = [part for part in parts if len(part)]
    assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))
    np.testing.assert_array_equal(gather_spill(folders, "a", spans), np.concatenate(parts))
    assert gather_spill(folders, "a", [(0, 0)] * 20).shape == (0, 5)


def test_missing_and_truncated_objects_are_named(bucket):
    with pytest.raises(StorageError, match=r"cannot read the scratch file s3://bucket/place/a.npy"):
        read_spill(bucket, "a")
    write_spill(bucket, {"a": LARGE})
    content = (bucket / "a.npy").read_bytes()
    (bucket / "a.npy").write_bytes(content[:-1])
    with pytest.raises(StorageError, match="is truncated"):
        read_spill(bucket, "a", 0, 2)
    (bucket / "a.npy").write_bytes(b"\0" * 500)
    with pytest.raises(StorageError, match="cannot read the scratch file"):
        read_spill(bucket, "a", 0, 2)


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_runs_of_values_are_sliced(bucket, tmp_path, limit):
    use_cache(tmp_path / "cache", limit)
    blocks = [RNG.random(size) for size in (3000, 0, 5000, 1)]
    runs = [{"a": block, "b": block} for block in blocks]
    found = spill_runs(bucket, {"a": np.float64, "b": np.float32}, iter(runs))
    whole = np.concatenate(blocks)
    for part in [slice(0, 10), slice(2990, 8001), slice(7, 7), slice(None)]:
        np.testing.assert_array_equal(found["a"][part], whole[part])
        np.testing.assert_array_equal(found["b"][part], whole[part].astype("f4"))
    assert len(found["a"]) == 8001
    use_cache(tmp_path / "cache", 0)
    kept = keep_runs(None, {"a": np.float64}, len(whole), ({"a": block} for block in blocks))
    np.testing.assert_array_equal(kept["a"], whole)


def test_run_of_nothing(bucket):
    found = spill_runs(bucket, {"a": np.float64}, iter([]))
    assert len(found["a"]) == 0
    assert found["a"][:].dtype == np.float64
