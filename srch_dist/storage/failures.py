"""One-line errors of disks and S3 servers; an error's class says whether a retry can succeed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from srch_dist.errors import StorageError, StorageUnavailableError, refusal
from srch_dist.storage.s3 import ABSENT, UNMET, has_no_service, is_answer, reason


def storage_error(
    action: str, path: object, error: BaseException, first: bool = False
) -> StorageError:
    """Return the error "cannot ACTION PATH: REASON" for the exception ``error``.

    The result is a StorageUnavailableError if the disk or server went away, failed or is full.

    Parameters
    ----------
    action : verb for the message, such as ``read`` or ``write``.
    first : True for the first write to the path. A read-only file system then means a wrong path
        (StorageError), not a disk that failed during the work (StorageUnavailableError).
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
    """Convert obstore errors in this context to StorageErrors "cannot VERB URL: REASON".

    If ``verb`` is ``read``, a missing object stays a FileNotFoundError. The error of a conditional
    write whose condition is not met stays unchanged.
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
