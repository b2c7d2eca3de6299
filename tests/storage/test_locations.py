"""Which places there are, and that none of them carries a secret or leaves its bucket."""

import pickle
from pathlib import Path

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage.locations import S3Path, locate
from srch_dist.storage.s3 import reason


@pytest.mark.parametrize(
    ("url", "key"), [("s3://some-bucket/a", "a"), ("s3://some-bucket/a/b.zarr/", "a/b.zarr")]
)
def test_urls_are_places(url, key):
    place = locate(url)
    assert place == S3Path("some-bucket", key)
    assert locate(str(place)) == place == pickle.loads(pickle.dumps(place))
    assert str(place / "c" / "0") == f"s3://some-bucket/{key}/c/0"
    assert (place / "c").parent == place
    assert ((place / "x.npz").name, (place / "x.npz").suffix) == ("x.npz", ".npz")


@pytest.mark.parametrize(
    "url",
    [
        *("s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3://b/key", "s3://Bucket/key"),
        *("s3://bucket/../other", "s3://bucket/a//b", "s3://bucket/./a", "S3://bucket/a"),
        *("memory://a", "gs://bucket/a", "http://host/a", ""),
    ],
)
def test_other_urls_are_refused(url):
    with pytest.raises(StorageError):
        locate(url)


@pytest.mark.parametrize("secret", ["c0nfidential", "c0n/fidential", "/c0nfidential"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(secret):
    with pytest.raises(StorageError, match="credentials do not belong") as end:
        locate(f"s3://key:{secret}@bucket/a")
    assert secret not in str(end.value)


def test_paths_are_local():
    assert locate("a/b") == Path("a/b").absolute()
    assert locate("file:///a/b") == Path("/a/b")


def test_other_errors_keep_their_words():
    assert reason(ValueError("as it is"), "s3://bucket/a") == "as it is"
    assert reason(FileNotFoundError("a\nb"), "s3://bucket/a") == "it does not exist"
