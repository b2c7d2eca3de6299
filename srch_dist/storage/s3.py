"""S3 servers through obstore: connections, retries, and one-line errors.

Endpoint, region and credentials come from the environment of each process that reads or writes.
Credentials can also be in a file, because container platforms mount secrets as files. The variable
AWS_SHARED_CREDENTIALS_FILE has the path of that file.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from srch_dist.errors import StorageError, refusal, require

# Seconds during which a request is retried, at growing intervals, if a server does not answer or
# asks to slow down.
RETRY_SECONDS = 60
# Seconds of retries of a command's first request. Short, so that a wrong address or key fails soon.
PROBE_SECONDS = 8
_KEYS = ("access_key_id", "secret_access_key", "session_token")
# Environment variables of the endpoint, in order of precedence. The tool s5cmd of the Kubernetes
# job reads the last one.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL")
# Names of obstore's errors for a conditional request whose condition does not hold.
UNCHANGED = "NotModifiedError"
UNMET = ("AlreadyExistsError", "PreconditionError", UNCHANGED)
ABSENT = "it does not exist"
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "InvalidClientTokenId",
)
# Answers of a server that is overloaded or fails; 5xx as well.
_NO_SERVICE = ("SlowDown", "429", "RequestTimeout", "InternalError", "ServiceUnavailable")
_THROTTLED = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests")


def reason(error: BaseException, url: str) -> str:
    """Explain in one line why an S3 request failed; for any other error, return its text."""
    if not is_answer(error):
        return str(error)
    if _has_no_credentials(error):
        return (
            "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a "
            "file with both in AWS_SHARED_CREDENTIALS_FILE"
        )
    name = _answered(error)
    if name == "NoSuchBucket":
        return f"there is no bucket {url.split('/')[2]}; create it, or correct the name"
    if name in _CREDENTIALS:
        return (
            f"the credentials are wrong or have expired ({name}); set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and, for temporary credentials, AWS_SESSION_TOKEN"
        )
    if name in ("AccessDenied", "AllAccessDisabled", "403"):
        return f"the credentials do not permit this request ({name})"
    if name in ("SlowDown", "503"):
        return f"the server asks to slow down, and still did after retries ({name})"
    if name in ("PermanentRedirect", "301"):
        return "the bucket is in another region; set AWS_REGION"
    if isinstance(error, FileNotFoundError):
        return ABSENT
    if name:
        return f"the server answers {name}"
    return (
        f"no answer from {endpoint() or 'Amazon S3'}; check that the server is up and that "
        "AWS_ENDPOINT_URL is its address"
    )


def has_no_service(error: BaseException) -> bool:
    """Whether a request failed because the server does not answer, is overloaded or is broken.

    A later attempt can then succeed.
    """
    if not is_answer(error) or isinstance(error, FileNotFoundError) or _has_no_credentials(error):
        return False
    name = _answered(error)
    if name:
        return name in (*_NO_SERVICE, *_THROTTLED) or _has_failed(str(error))
    return type(error).__name__ == "GenericError"


def _answered(error: BaseException) -> str:
    """Return the S3 error code or, without one, the HTTP status in an error's text; else ""."""
    text = str(error)
    found = _CODE.search(text) or _STATUS.search(text)
    return found.group(1) if found else ""


def _has_failed(text: str) -> bool:
    status = _STATUS.search(text)
    return status is not None and status.group(1).startswith("5")


def _has_no_credentials(error: BaseException) -> bool:
    # Without keys, obstore asks the machine's metadata service for some.
    return any(part in str(error) for part in ("//169.254.", "//[fd00:ec2", "security-credentials"))


def is_answer(error: BaseException) -> bool:
    """Whether a failed S3 request raised the error, with or without an answer of the server."""
    return isinstance(error, FileNotFoundError) or type(error).__module__.startswith("obstore")


def endpoint() -> str | None:
    """Read the URL of the S3 server from the environment; None for Amazon S3."""
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)


def connect(bucket: str, seconds: int | None = None) -> Any:
    """Return the obstore client of a bucket; clients are cached per process.

    A failed request is retried for ``seconds``; default `RETRY_SECONDS`.
    """
    settings = {k: v for k, v in os.environ.items() if k.startswith("AWS_") or k in ENDPOINTS}
    settings["keys"] = json.dumps(_keys_of_file())
    return _connect(bucket, seconds or RETRY_SECONDS, json.dumps(settings, sort_keys=True))


def _keys_of_file() -> dict[str, str]:
    """Read the credentials in the file AWS_SHARED_CREDENTIALS_FILE, which obstore does not read.

    Returns {} if AWS_ACCESS_KEY_ID is set, or the file does not exist, or the file does not have
    the profile that AWS_PROFILE names.
    obstore then uses its other sources, such as the environment or the machine's identity.
    """
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    if not file or os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise refusal(StorageError, f"cannot read {file}: {error}", error) from None
    except configparser.Error:  # its message repeats lines, which hold a secret
        raise StorageError(
            f"{file} is not a file of credentials; write [default], aws_access_key_id = ... and "
            "aws_secret_access_key = ..."
        ) from None
    profile = os.environ.get("AWS_PROFILE", "default")
    found = parser[profile] if parser.has_section(profile) else {}
    return {name: found[f"aws_{name}"] for name in _KEYS if f"aws_{name}" in found}


@lru_cache(maxsize=256)
def _connect(bucket: str, seconds: int, settings: str) -> Any:
    store = require("obstore.store", "s3", f"s3://{bucket}")
    address = endpoint()
    options: dict[str, Any] = json.loads(json.loads(settings)["keys"])
    if address is not None:
        options["endpoint"] = address
    timeout = min(seconds, 30)
    return store.S3Store(
        bucket,
        client_options={
            "allow_http": address is not None and address.startswith("http://"),
            "connect_timeout": "4s",
            "timeout": f"{timeout}s",
        },
        retry_config={
            "max_retries": 4 if seconds <= PROBE_SECONDS else 100,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=4),
                "base": 2,
            },
        },
        **options,
    )


def obstore() -> Any:
    """Import and return obstore; raise ExtraError if it is not installed."""
    return require("obstore", "s3", "a store at s3://")
