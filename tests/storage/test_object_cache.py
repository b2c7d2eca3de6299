"""Cache of objects: bounded, never stale, never the only copy."""

from __future__ import annotations

import numpy as np
import pytest

from srch_dist.storage import arrays, object_cache
from srch_dist.storage.object_cache import read_object, read_range, use_cache

SIZE = 20_000


@pytest.fixture
def cache(tmp_path):
    use_cache(tmp_path / "cache", 5 * SIZE)
    yield object_cache._cache
    use_cache(tmp_path / "cache", 0)
    assert not (tmp_path / "cache").exists()


def put(path, value: int, size: int = SIZE) -> bytes:
    content = bytes([value]) * size
    path.write_bytes(content)
    return content


def test_second_read_is_from_the_cache(bucket, cache):
    content = put(bucket, 1)
    assert read_object(bucket) == content
    (file,) = cache.folder.iterdir()
    file.write_bytes(b"x" * SIZE)  # shows where the next read comes from
    assert bytes(read_object(bucket)) == b"x" * SIZE


def test_changed_object_is_read_again(bucket, cache):
    put(bucket, 1)
    read_object(bucket)
    content = put(bucket, 2)
    assert read_object(bucket) == content
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.usefixtures("cache")
def test_removed_object_is_absent(bucket):
    put(bucket, 1)
    read_object(bucket)
    bucket.unlink()
    with pytest.raises(FileNotFoundError):
        read_object(bucket)


def test_lost_or_cut_file_is_read_again(bucket, cache):
    content = put(bucket, 1)
    for harm in (lambda file: file.unlink(), lambda file: file.write_bytes(b"")):
        read_object(bucket)
        (file,) = cache.folder.iterdir()
        harm(file)
        assert read_object(bucket) == content


def test_damaged_cache_does_not_change_an_array(bucket, cache):
    values = np.arange(SIZE // 4, dtype="f8")
    arrays.create_chunk(bucket, values)
    for _ in range(2):
        np.testing.assert_array_equal(arrays.read_rows(bucket), values)
        for file in cache.folder.iterdir():
            content = bytearray(file.read_bytes())
            content[100] ^= 1
            file.write_bytes(content)


def test_cache_is_bounded(bucket, cache):
    for number in range(30):
        put(bucket / str(number), number, SIZE + 37 * number)
        read_object(bucket / str(number))
        used = sum(file.stat().st_size for file in cache.folder.iterdir())
        assert used == cache._used <= cache.limit
    assert used > cache.limit // 2
    put(bucket, 0, cache.limit + 1)
    read_object(bucket)
    assert cache.find(bucket) is None


def test_full_disk_leaves_the_object_uncached(bucket, cache):
    content = put(bucket, 1)
    cache.folder.mkdir()
    cache.folder.chmod(0o500)
    cache.folder.rmdir()
    cache.folder.write_text("a file where the folder should be")
    assert read_object(bucket) == content
    assert (cache.find(bucket), cache._used) == (None, 0)
    cache.folder.unlink()


@pytest.mark.usefixtures("cache")
def test_ranges_come_from_one_download(bucket):
    content = bytes(range(250)) * 200
    bucket.write_bytes(content)
    version = bucket.read_part(0, 1).version
    for start, stop in [(0, 10), (333, 40_000), (49_990, 50_000), (49_990, 60_000)]:
        assert read_range(bucket, version, len(content), start, stop) == content[start:stop]
    bucket.unlink()
    assert read_range(bucket, version, len(content), 5, 9) == content[5:9]


def test_ranges_of_large_objects_are_requested(bucket, cache):
    content = put(bucket, 7, cache.limit + 1)
    version = bucket.read_part(0, 1).version
    assert read_range(bucket, version, len(content), 5, 9) == content[5:9]
    assert cache._used == 0


def test_objects_in_use_stay_until_the_store_has_removed_them(bucket, cache):
    names, size = [bucket / str(number) for number in range(4)], 2 * SIZE
    for number, path in enumerate(names):
        put(path, number, size)
    versions = [path.read_part(0, 1).version for path in names]

    def read(number: int) -> None:
        content = read_range(names[number], versions[number], size, 3, 5)
        assert content == bytes([number]) * 2

    for number in (0, 1, 2, 0, 1, 2):
        read(number)
    assert [cache.find(path) is not None for path in names[:3]] == [True, True, False]
    names[0].unlink()
    read(3)
    assert [cache.find(path) is not None for path in names] == [False, True, False, True]
