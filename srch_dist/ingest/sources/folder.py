"""Folders: shards of arrays and tables beside each other, as clip-retrieval writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.ingest.sources.base import TABLES, Source, is_known, is_zarr, open_source, recut
from srch_dist.ingest.sources.npy import NpySource
from srch_dist.ingest.sources.sandbox import SandboxedSource

_SHOWN = 5


class ShardedNpy:
    """One array in several .npy files; see `srch_dist.ingest.sources.base.Source`."""

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self._name, self._shards = name, [NpySource(path) for path in paths]
        self.left_out: Mapping[str, str] = {}
        specs = [next(iter(shard.specs().values())) for shard in self._shards]
        first_shape, dtype = specs[0]
        for path, (shape, kind) in zip(paths, specs, strict=True):
            if not shape or shape[1:] != first_shape[1:] or kind != dtype:
                raise InputError(
                    f"{path} is {shape} of {kind}, {paths[0]} is {first_shape} of {dtype}; shards "
                    "of one array differ in their rows alone"
                )
        self.rows = [shape[0] for shape, _ in specs]
        self._spec = ((sum(self.rows), *first_shape[1:]), dtype)

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of the whole array."""
        return {self._name: self._spec}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The array ``name``, the only one, from row ``start`` in runs of ``rows`` rows."""
        if name != self._name:
            raise InputError(f"there is no array {name!r}")
        return recut(self._pieces(rows, start), rows)

    def _pieces(self, rows: int, start: int) -> Iterator[NDArray[Any]]:
        first = 0
        for shard, count in zip(self._shards, self.rows, strict=True):
            if first + count > start:
                yield from shard.blocks(shard.name, rows, max(0, start - first))
            first += count


class CompositeSource:
    """Several sources as one; a name that two of them have is put behind its source's name."""

    def __init__(self, parts: Mapping[str, Source], left_out: Mapping[str, str]) -> None:
        self._places: dict[str, tuple[Source, str]] = {}
        self.left_out = dict(left_out)
        names = [name for part in parts.values() for name in part.specs()]
        for label, part in parts.items():
            for name in part.specs():
                shown = name if names.count(name) == 1 else f"{label}_{name}"
                if shown in self._places:
                    raise InputError(f"two arrays would be called {shown}; rename one of them")
                self._places[shown] = part, name
            self.left_out |= {f"{label}.{name}": why for name, why in part.left_out.items()}

    def specs(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every array of every source."""
        return {name: part.specs()[inner] for name, (part, inner) in self._places.items()}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """The array from row ``start`` in runs of ``rows`` rows."""
        part, inner = self._places[name]
        return part.blocks(inner, rows, start)


def open_files(paths: Sequence[Path]) -> CompositeSource:
    """Several files or folders as one source."""
    parts: dict[str, Source] = {}
    for path in paths:
        if path.stem in parts:
            raise InputError(f"two sources are called {path.stem}; rename one of them")
        parts[path.stem] = open_source(path)
    return CompositeSource(parts, {})


def open_folder(path: Path) -> CompositeSource:
    """A folder of files and of folders of shards.

    Files whose names differ in a number alone are shards, in the order of the number. A folder
    whose files are all shards of one array or table bears its name (``img_emb/img_emb_0.npy``).
    """
    groups, left_out = _groups(path)
    for child in sorted(path.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        if is_zarr(child):
            groups[child.stem] = [child]
            continue
        inner, ignored = _groups(child)
        left_out |= {f"{child.name}/{name}": why for name, why in ignored.items()}
        for name, files in inner.items():
            label = child.name if len(inner) == 1 else name
            if label in groups:
                raise InputError(f"{path}: two groups of files are called {label}; rename one")
            groups[label] = files
    if not groups:
        raise InputError(f"{path} holds no file of a known format and no folder of such files")
    parts = {name: _open_group(name, files) for name, files in groups.items()}
    _check_shards(path, groups, parts)
    return CompositeSource(parts, left_out)


def _groups(folder: Path) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Files by what they are shards of, in order, and what is no known format."""
    groups: dict[tuple[str, str], list[Path]] = {}
    left_out = {}
    for file in sorted(folder.iterdir(), key=_number_key):
        if file.is_dir() or file.name.startswith((".", "_")):
            continue
        if is_known(file):
            groups.setdefault((_shard_name(file), file.suffix.lower()), []).append(file)
        else:
            left_out[file.name] = "its format is not known"
    named: dict[str, list[Path]] = {}
    for (name, _), files in groups.items():
        label = name if len(files) > 1 else files[0].stem
        if label in named:
            raise InputError(f"{folder}: {label} is there in two formats; move one away")
        named[label] = files
    return named, left_out


def _open_group(name: str, files: Sequence[Path]) -> Source:
    suffix = files[0].suffix.lower()
    if suffix == ".npy":
        return ShardedNpy(name, files)
    if suffix in TABLES:
        return SandboxedSource(*files)
    if len(files) > 1:
        listing = ", ".join(file.name for file in files[:_SHOWN])
        raise InputError(f"{listing}: shards are read of .npy, .parquet and .arrow files alone")
    return open_source(files[0])


def _check_shards(
    folder: Path, groups: Mapping[str, Sequence[Path]], parts: Mapping[str, Source]
) -> None:
    """Refuse shards of one number with unequal rows, and list them: their rows are not pairs."""
    rows: dict[str, dict[str, int]] = {}
    for name, part in parts.items():
        if isinstance(part, ShardedNpy | SandboxedSource) and part.rows:
            for file, count in zip(groups[name], part.rows, strict=True):
                if _number(file):
                    rows.setdefault(_number(file), {})[name] = count
    wrong = [
        f"shard {number}: " + ", ".join(f"{name} {count}" for name, count in counts.items())
        for number, counts in rows.items()
        if len(set(counts.values())) > 1
    ]
    totals = {name: sum(counts.get(name, 0) for counts in rows.values()) for name in parts}
    sharded = {name for counts in rows.values() for name in counts}
    lacking = [
        f"shard {number}: no {', '.join(sorted(sharded - set(counts)))}"
        for number, counts in rows.items()
        if set(counts) != sharded
    ]
    if len({totals[name] for name in sharded}) > 1:
        wrong += lacking
    if wrong:
        shown = "; ".join(wrong[:_SHOWN]) + ("; …" if len(wrong) > _SHOWN else "")
        raise InputError(f"{folder}: {len(wrong)} shards do not pair: {shown}")


def _shard_name(path: Path) -> str:
    """The stem without its number and what follows it: part-00000-of-00010 is part."""
    return re.sub(r"[-_.]?\d+(-of-\d+)?$", "", path.stem) or "part"


def _number(path: Path) -> str:
    found = re.search(r"(\d+)(-of-\d+)?$", path.stem)
    return str(int(found[1])) if found else ""


def _number_key(path: Path) -> tuple[str, int, str]:
    return _shard_name(path), int(_number(path) or -1), path.name
