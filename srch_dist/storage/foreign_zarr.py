"""Read Zarr arrays of other programs, format 2 or 3, without trusting them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.storage import _text_codec  # noqa: F401  (patches the codec of text)
from srch_dist.storage._text_codec import TEXT

_KINDS = "fiubcUT"
# Prefixes of Zarr 2 codecs that decode into Python objects; pickle runs code when it decodes.
_UNSAFE = ("pickle", "msgpack", "json")
# Chunk files below an array: c/0/1 or c.0.1 (format 3), 0.1 or 0/1 (format 2); c or 0 of a scalar.
_CHUNK = re.compile(r"c|(c[./])?\d+([./]\d+)*")


class ForeignZarr:
    """The arrays of a Zarr group, or one array, by name (``group.name`` in subgroups).

    Attributes
    ----------
    arrays : (shape, chunk shape, dtype, stored bytes) by name.
    left_out : reason by name, of arrays that are not read.

    Raises
    ------
    InputError : metadata are damaged, or chunks were never written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, Path] = {}
        self.arrays: dict[str, tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any], int]] = {}
        self.left_out: dict[str, str] = {}
        for place in _array_folders(path):
            inner = place.relative_to(path).parts
            try:
                self._add(".".join(inner) or path.stem, place)
            except (TypeError, ValueError, KeyError, ArithmeticError, OSError) as error:
                raise InputError(f"{place} has damaged metadata: {error}") from None

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop`` - 1 of an array; raises InputError if they are damaged."""
        array = _open(self._places[name])
        try:
            return np.asarray(array[start:stop] if array.ndim else array[()])
        except Exception as error:  # Zarr and its codecs raise many kinds
            raise InputError(f"{self._path}: {name} cannot be read: {error}") from None

    def _add(self, name: str, place: Path) -> None:
        reason = _unsafe(place)
        if reason is not None:
            self.left_out[name] = reason
            return
        array = _open(place)
        if array.dtype.kind not in _KINDS:
            self.left_out[name] = f"it is {array.dtype}, neither numbers nor text"
            return
        files = [file for file in place.rglob("*") if file.is_file()]
        stored = sum(file.stat().st_size for file in files)
        whole = array.shards or array.chunks
        cuts = zip(array.shape, whole, strict=True)
        wanted = math.prod(-(-rows // step) for rows, step in cuts)
        # Counted by hand: Zarr would list every chunk that the shape claims.
        written = sum(
            _CHUNK.fullmatch(file.relative_to(place).as_posix()) is not None for file in files
        )
        if written < wanted:
            raise InputError(
                f"{self._path}: {wanted - written} chunks of {name} were never written and would "
                f"read as {array.fill_value}; write them (write_empty_chunks=True keeps those of "
                "one value)"
            )
        self._places[name] = place
        dtype = TEXT if array.dtype.kind in "UT" else array.dtype
        self.arrays[name] = (array.shape, whole, dtype, stored)


def _array_folders(path: Path) -> Iterator[Path]:
    """Folders of arrays below ``path``, or ``path`` itself; links are not followed."""
    if _metadata(path, "zarr.json").get("node_type") == "array" or (path / ".zarray").is_file():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield from _array_folders(child)


def _unsafe(place: Path) -> str | None:
    """Why an array of Zarr format 2 must not be read; None if it may be."""
    metadata = _metadata(place, ".zarray")
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or [])]
    names = [str(codec.get("id")) for codec in codecs if isinstance(codec, Mapping)]
    for name in names:
        if name.startswith(_UNSAFE):
            return f"its codec {name} decodes into Python objects"
    if "O" in str(metadata.get("dtype")) and "vlen-utf8" not in names:
        return "it holds Python objects"
    return None


def _metadata(place: Path, name: str) -> dict[str, Any]:
    if not (place / name).is_file():
        return {}
    try:
        values = json.loads((place / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {place / name}: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{place / name} is not Zarr metadata")
    return values


def _open(place: Path) -> zarr.Array[Any]:
    try:
        return zarr.open_array(str(place), mode="r")
    except Exception as error:  # Zarr raises many kinds over damaged metadata
        raise InputError(f"cannot open the Zarr array {place}: {error}") from None
