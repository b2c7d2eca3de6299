"""One-line errors of disks and S3 servers, and the class that says whether to try again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from srch_dist.errors import StorageError, StorageUnavailableError, refusal
from srch_dist.storage.s3 import ABSENT, UNMET, has_no_service, is_answer, reason


def storage_error(
    action: str, path: object, error: BaseException, first: bool = False
) -> StorageError:
    """The error for what could not be done at a path: "cannot ACTION PATH: why".

    It is a StorageUnavailableError if the disk or server went away, failed or is full.

    Parameters
    ----------
    action : what was tried, such as ``read`` or ``write``.
    first : whether nothing was written there before. A read-only file system is then a wrong path,
        and not one that failed meanwhile.
    """
    cause = reason(error, str(path))
    if isinstance(error, OSError) and not is_answer(error):
        cause = error.strerror or cause
    message = f"cannot {action} {path}: {cause}"
    if first and isinstance(error, OSError) and error.errno == errno.EROFS:
        return StorageError(message)
    if has_no_service(error):
        return StorageUnavailableError(message)
    found = refusal(StorageError, message, error)
    assert isinstance(found, StorageError)
    return found


@contextmanager
def translate_s3_errors(url: str, verb: str) -> Iterator[None]:
    """Turn obstore errors into one-line StorageErrors.

    A missing object stays a FileNotFoundError on read, and an unmet condition stays as it is.
    """
    try:
        yield
    except Exception as error:
        if not is_answer(error) or type(error).__name__ in UNMET:
            raise
        cause = reason(error, url)
        if isinstance(error, FileNotFoundError) and verb == "read" and cause == ABSENT:
            raise FileNotFoundError(f"{url}: {cause}") from None
        raise storage_error(verb, url, error) from None
