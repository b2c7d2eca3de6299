"""Credentials of S3 servers in a file, as container platforms mount secrets."""

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage import s3

FILE = """[default]
aws_access_key_id = first
aws_secret_access_key = hidden%2

[other]
aws_access_key_id = second
aws_secret_access_key = hidden
aws_session_token = token
"""


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """The file, named in the environment, which has no keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "credentials"
    path.write_text(FILE)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return path


def keys() -> tuple:
    config = s3.connect("some-bucket").config
    names = ("access_key_id", "secret_access_key", "session_token")
    return tuple(config.get(name) or config.get(f"aws_{name}") for name in names)


@pytest.mark.usefixtures("credentials")
def test_keys_of_the_file_are_used():
    assert keys() == ("first", "hidden%2", None)


@pytest.mark.usefixtures("credentials")
def test_keys_of_the_profile_are_used(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert keys() == ("second", "hidden", "token")


@pytest.mark.usefixtures("credentials")
def test_keys_in_the_environment_come_first(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my secret")
    assert "first" not in keys()


def test_a_renewed_file_is_read_again(credentials):
    keys()
    credentials.write_text(FILE.replace("first", "renewed"))
    assert keys()[0] == "renewed"


@pytest.mark.parametrize("text", [None, "", "[another]\naws_access_key_id = x\n"])
def test_without_the_file_or_its_profile_the_next_way_is_tried(credentials, text):
    credentials.unlink() if text is None else credentials.write_text(text)
    assert keys() == (None, None, None)


@pytest.mark.parametrize("text", ["aws_secret_access_key = hidden\n", "[default]\nhidden\n"])
def test_another_file_is_refused_and_not_repeated(credentials, text):
    credentials.write_text(text)
    with pytest.raises(
        StorageError, match="credentials is not a file of credentials; write"
    ) as end:
        s3.connect("some-bucket")
    assert "hidden" not in str(end.value)
