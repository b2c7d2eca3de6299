"""Errors of disks and S3 servers: their words, and whether a retry can succeed."""

import errno
import os

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from srch_dist.errors import InputError, StorageError, StorageUnavailableError, is_outage, refusal
from srch_dist.storage.failures import storage_error

OUTAGES = ["EIO", "ESTALE", "ENODEV", "ENOTCONN", "ETIMEDOUT", "EROFS", "ENOSPC", "EDQUOT"]
WRONG = ["ENOENT", "EACCES", "EPERM", "EEXIST", "EISDIR", "ENOTDIR", "ENAMETOOLONG"]
URL = "s3://some-bucket/a"


def os_error(name: str) -> OSError:
    code = getattr(errno, name)
    return OSError(code, os.strerror(code), "/data/a")


@pytest.mark.parametrize("name", OUTAGES)
def test_a_disk_that_went_away_or_is_full_is_an_outage(name):
    found = storage_error("write", "/data/a", os_error(name))
    assert type(found) is StorageUnavailableError
    assert str(found) == f"cannot write /data/a: {os.strerror(getattr(errno, name))}"
    assert type(refusal(InputError, "text", os_error(name))) is StorageUnavailableError


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_path_is_none(name):
    assert type(storage_error("write", "/data/a", os_error(name))) is StorageError
    assert type(refusal(InputError, "text", os_error(name))) is InputError


def test_a_read_only_file_system_is_a_wrong_path_for_the_first_write():
    assert type(storage_error("write", "/a", os_error("EROFS"), first=True)) is StorageError
    full = storage_error("write", "/a", os_error("ENOSPC"), first=True)
    assert type(full) is StorageUnavailableError


def test_other_exceptions_are_no_outages_and_outages_stay_some():
    assert type(storage_error("read", "/a", ValueError("damaged"))) is StorageError
    assert (
        type(storage_error("read", "/a", StorageUnavailableError("x"))) is StorageUnavailableError
    )


def test_the_code_in_a_message_of_hdf5_counts():
    text = "Can't read data (file read failed: errno = {}, error message = 'x')"
    assert is_outage(OSError(text.format(errno.EIO)))
    assert not is_outage(OSError(text.format(errno.EACCES)))


ANSWERS = [
    (GenericError, "Generic S3 error: Error performing PUT: error sending request", True),
    (GenericError, "error: status code: 500, body: <Error><Code>InternalError</Code>", True),
    (GenericError, "error: status code: 502 Bad Gateway", True),
    (GenericError, "error: status code: 503, body: <Error><Code>SlowDown</Code>", True),
    (GenericError, "error: status code: 507, body: <Error><Code>XMinioStorageFull</Code>", True),
    (GenericError, "error: status code: 429 Too Many Requests", True),
    (GenericError, "error: status code: 400, body: <Code>ThrottlingException</Code>", True),
    (GenericError, "error: status code: 404, body: <Error><Code>NoSuchBucket</Code>", False),
    (GenericError, "error: status code: 301 Moved", False),
    (GenericError, "error: status code: 400, body: <Error><Code>ExpiredToken</Code>", False),
    (GenericError, "request to http://169.254.169.254/latest/api/token failed", False),
    (GenericError, "PUT http://169.254.169.254/latest: status code: 502 Bad Gateway", False),
    (GenericError, "PUT http://127.0.0.1:9/some-bucket/metadata.json: connection refused", True),
    (PermissionDeniedError, "error: status code: 403, body: <Code>AccessDenied</Code>", False),
    (PermissionDeniedError, "no answer at all", False),
    (FileNotFoundError, "absent", False),
]


@pytest.mark.parametrize(("kind", "text", "outage"), ANSWERS)
def test_an_s3_server_that_is_away_or_overloaded_is_an_outage(kind, text, outage):
    found = storage_error("read", URL, kind(text))
    assert type(found) is (StorageUnavailableError if outage else StorageError)
