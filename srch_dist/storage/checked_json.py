"""Read JSON files of this package, and check their shape: the keys, and the types of the values.

A truncated file or unexpected JSON raises a StorageError that names the file. The error is raised
when the file is read. Without these checks, the first use of a missing key would raise a KeyError.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import decode_text
from srch_dist.storage.locations import Location

T = TypeVar("T")


def parse_checked_lines(content: bytes, path: Location, remedy: str) -> list[dict[str, Any]]:
    """Parse the content of the file ``path``, which has one JSON object per line.

    Raises
    ------
    StorageError : a line is not a JSON object, for example because the line is truncated.
    """
    return [
        _parse_line(line, f"{path} line {number}", remedy)
        for number, line in enumerate(content.splitlines(), 1)
    ]


def check_shape(value: T, kind: Any, place: object, remedy: str) -> T:
    """Return ``value`` unchanged if it has the shape ``kind``.

    Parameters
    ----------
    value : value parsed from JSON.
    kind : type that pydantic can check, such as a dataclass whose fields are the keys that readers
        need. ``value`` may have more keys.
    place : file that holds the value, for the message.
    remedy : sentence on what to do, for the message.

    Raises
    ------
    StorageError : a key is missing, or a value has a wrong type. The message names the key.
    """
    try:
        # Strict, and as JSON: in Python a dict is no instance of a dataclass.
        _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole value"
        reason = first["msg"][:1].lower() + first["msg"][1:]
        raise StorageError(f"{place} is damaged: {key}: {reason}. {remedy}") from None
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _parse_line(line: bytes, place: str, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(decode_text(line))
    except UnicodeDecodeError:
        raise StorageError(f"{place} is damaged: it is not JSON text. {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{place} is damaged: {error}. {remedy}") from None
    return check_shape(value, dict[str, Any], place, remedy)
