"""Read Zarr arrays that other programs wrote (format 2 or 3), and detect damage and unsafe data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.storage import _text_codec  # noqa: F401  (patches the codec of text)
from srch_dist.storage._text_codec import TEXT
from srch_dist.storage.foreign_shards import missing_in_shard, sharding_of

# Prefixes of Zarr 2 codecs that decode into Python objects; pickle runs code when it decodes.
_UNSAFE = ("pickle", "msgpack", "json")
_AGAIN = "Write the array again."
# Maximum number of digits in a chunk's coordinate.
_MOST_DIGITS = 18
# Exceptions that invalid metadata raise.
_DAMAGE = (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError, OSError)


class _DamagedError(ValueError):
    """The metadata of a Zarr group or array cannot be read."""


class ForeignArray(NamedTuple):
    """Metadata of an array in a Zarr group.

    Attributes
    ----------
    shape, dtype : shape and dtype of the array; text of any kind is StringDType.
    chunks : shape of the part of the array that one file holds: a chunk, or a shard of chunks.
    stored : total size of the array's files, in bytes.
    attributes : attributes of the array.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int
    attributes: Mapping[str, Any]


class ForeignZarr:
    """All arrays of a Zarr group, or one Zarr array. Names in subgroups are ``group.name``.

    Attributes
    ----------
    arrays : by name, the metadata of each array that can be opened.
    incomplete : by name, for each array with missing chunks: (number of missing chunks, number of
        all chunks, fill value).
    unreadable : by name, for each array that cannot be opened, is damaged, or holds Python objects:
        the reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, Path] = {}
        self.arrays: dict[str, ForeignArray] = {}
        self.incomplete: dict[str, tuple[int, int, Any]] = {}
        self.unreadable: dict[str, str] = {}
        try:
            places = list(_array_folders(path))
        except _DamagedError as error:
            raise InputError(f"{path} {error}") from None
        for place in places:
            name = ".".join(place.relative_to(path).parts) or path.stem
            try:
                self._add(name, place)
            except InputError as error:
                self.unreadable[name] = str(error)
            except _DAMAGE as error:
                damage = "" if isinstance(error, _DamagedError) else "has damaged metadata: "
                self.unreadable[name] = f"{damage}{error}. {_AGAIN}"

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` - 1 of an array; text is in native byte order."""
        array = _open(self._places[name])
        try:
            values = np.asarray(array[start:stop] if array.ndim else array[()])
        except Exception as error:  # zarr and its codecs raise many kinds
            raise InputError(f"{self._path}: {name} cannot be read: {error}") from None
        if values.dtype.kind == "U":  # StringDType needs native byte order
            return values.astype(values.dtype.newbyteorder("="), copy=False)
        return values

    def _add(self, name: str, place: Path) -> None:
        metadata = _metadata(place, "zarr.json") or _metadata(place, ".zarray")
        _refuse_objects(metadata)
        array = _open(place)
        whole = array.shards or array.chunks
        sharding = sharding_of(metadata.get("codecs", []))
        # Files are counted here, because Zarr lists every possible chunk of a hostile shape.
        grid = _counts(array.shape, whole)
        chunk = whole if sharding is None else [int(step) for step in sharding["chunk_shape"]]
        parse = _key_parser(metadata, grid)
        found: set[tuple[int, ...]] = set()
        stored = present = 0
        for file in (file for file in place.rglob("*") if file.is_file()):
            stored += file.stat().st_size
            position = parse(file.relative_to(place).as_posix())
            if position is None or position in found:
                continue
            found.add(position)
            axes = zip(position, array.shape, whole, strict=True)
            inside = [min(step, rows - at * step) for at, rows, step in axes]
            present += math.prod(_counts(inside, chunk))
            if sharding is not None:
                present -= missing_in_shard(file, sharding, inside, whole)
        wanted = math.prod(_counts(array.shape, chunk))
        if present < wanted:
            self.incomplete[name] = wanted - present, wanted, array.fill_value
        dtype = TEXT if array.dtype.kind in "UT" else array.dtype
        self._places[name] = place
        self.arrays[name] = ForeignArray(array.shape, whole, dtype, stored, dict(array.attrs))


def _array_folders(path: Path) -> Iterator[Path]:
    """Yield each folder that holds an array, ``path`` included; do not follow links."""
    if (path / ".zarray").is_file() or _may_be_array(path):
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.is_symlink() or not child.is_dir() or child.name.startswith("."):
            continue
        try:
            yield from list(_array_folders(child))
        except _DamagedError:
            yield child  # opening it as an array reports the damage


def _may_be_array(place: Path) -> bool:
    """Whether a folder has Zarr v3 metadata that do not declare a group."""
    metadata = _metadata(place, "zarr.json")
    return bool(metadata) and metadata.get("node_type") != "group"


def _counts(shape: Sequence[int], step: Sequence[int]) -> list[int]:
    """Count the chunks along each axis; ``shape`` is the array's shape, ``step`` a chunk's."""
    return [-(-rows // length) for rows, length in zip(shape, step, strict=True)]


def _refuse_objects(metadata: Mapping[str, Any]) -> None:
    """Raise InputError if a codec of a Zarr v2 array makes Python objects; pickle is an example."""
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or [])]
    names = [str(codec.get("id")) for codec in codecs if isinstance(codec, Mapping)]
    for name in names:
        if name.startswith(_UNSAFE):
            raise InputError(
                f"has the codec {name}, which makes Python objects and may run code. Save the "
                "array as numbers or as text."
            )
    if "O" in str(metadata.get("dtype")) and "vlen-utf8" not in names:
        raise InputError("holds Python objects. Save the array as numbers or as text.")


def _key_parser(
    metadata: Mapping[str, Any], grid: Sequence[int]
) -> Callable[[str], tuple[int, ...] | None]:
    """Return a function that maps a file's path to a chunk index, or to None for any other file.

    ``grid`` is the number of chunks along each axis. The file of a chunk outside the grid maps to
    None, too: such a file can remain after a larger array was made smaller.
    """
    encoding = metadata.get("chunk_key_encoding")
    if encoding is None:
        prefix, separator = "", str(metadata.get("dimension_separator") or ".")
    else:
        default = encoding["name"] == "default"
        prefix, separator = "c" if default else "", "/" if default else "."
        separator = str((encoding.get("configuration") or {}).get("separator", separator))

    def parse(key: str) -> tuple[int, ...] | None:
        if not grid:
            return () if key == (prefix or "0") else None
        parts = key.split(separator)
        if prefix and parts.pop(0) != prefix:
            return None
        if len(parts) != len(grid) or any(not _is_coordinate(part) for part in parts):
            return None
        position = tuple(map(int, parts))
        return position if all(at < end for at, end in zip(position, grid, strict=True)) else None

    return parse


def _is_coordinate(part: str) -> bool:
    """Whether a text is a chunk coordinate as Zarr writes it: digits without leading zeros."""
    digits = part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS
    return digits and (part == "0" or not part.startswith("0"))


def _metadata(place: Path, name: str) -> dict[str, Any]:
    if not (place / name).is_file():
        return {}
    try:
        values = json.loads((place / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _DamagedError(f"has damaged metadata in {place / name}: {error}") from None
    if not isinstance(values, dict):
        raise _DamagedError(f"has damaged metadata in {place / name}: expected a JSON object")
    return values


def _open(place: Path) -> zarr.Array[Any]:
    try:
        return zarr.open_array(str(place), mode="r")
    except Exception as error:  # zarr raises many kinds here, none of them for users
        raise InputError(f"{place} cannot be opened as a Zarr array: {error}. {_AGAIN}") from None
