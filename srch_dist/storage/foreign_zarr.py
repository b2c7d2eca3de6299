"""Zarr arrays that this project did not write, v2 or v3, opened for reading alone."""

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
from srch_dist.storage import _text_codec  # noqa: F401  (text is read through it)

_KINDS = "fiubcUT"
# Codecs of Zarr v2 that turn a chunk into Python objects: pickle runs code when it is read.
_UNSAFE = ("pickle", "msgpack", "json")
# Where chunks lie below an array: c/0/1 or c.0.1 (v3), 0.1 or 0/1 (v2), c or 0 where it has none.
_CHUNK = re.compile(r"c|(c[./])?\d+([./]\d+)*")


class ForeignZarr:
    """The arrays of a Zarr group, or one array, by name (``group.name`` in subgroups).

    Attributes
    ----------
    arrays : (shape, chunks, dtype, bytes stored) by name. left_out : why, by name.
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
        """Rows ``start`` … ``stop`` - 1 of an array."""
        array = _open(self._places[name])
        try:
            return np.asarray(array[start:stop] if array.ndim else array[()])
        except Exception as error:  # zarr and its codecs raise many kinds
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
        # zarr would list every chunk that there could be, however many the shape says.
        found = sum(
            _CHUNK.fullmatch(file.relative_to(place).as_posix()) is not None for file in files
        )
        if found < wanted:
            raise InputError(
                f"{self._path}: {wanted - found} chunks of {name} were never written and would "
                f"read as {array.fill_value}; write them (write_empty_chunks=True keeps those of "
                "one value)"
            )
        self._places[name] = place
        dtype = np.dtypes.StringDType() if array.dtype.kind in "UT" else array.dtype
        self.arrays[name] = (array.shape, whole, dtype, stored)


def _array_folders(path: Path) -> Iterator[Path]:
    """Folders below ``path`` (or itself) that hold an array; links are not followed."""
    if _metadata(path, "zarr.json").get("node_type") == "array" or (path / ".zarray").is_file():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield from _array_folders(child)


def _unsafe(place: Path) -> str | None:
    """Why an array of Zarr v2 must not be read; None where it may."""
    metadata = _metadata(place, ".zarray")
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or [])]
    names = [str(codec.get("id")) for codec in codecs if isinstance(codec, Mapping)]
    for name in names:
        if name.startswith(_UNSAFE):
            return f"its codec {name} makes Python objects"
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
    except Exception as error:  # zarr raises many kinds here, none of them for users
        raise InputError(f"cannot open the Zarr array {place}: {error}") from None
