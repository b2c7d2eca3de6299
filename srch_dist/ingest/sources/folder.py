"""Folders as a source: shards of arrays and tables, as clip-retrieval writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from srch_dist.errors import InputError
from srch_dist.ingest.sources.base import Source, Specs, rechunk
from srch_dist.ingest.sources.formats import ENDINGS, TABLES, is_known, is_zarr, open_source
from srch_dist.ingest.sources.npy import NpySource
from srch_dist.ingest.sources.sandbox import SandboxedSource
from srch_dist.kernels.types import Array

# Items that an error message lists before it says "…".
_LISTED = 5


class ShardedNpy:
    """A `Source` of one array that several .npy files hold, one range of rows each.

    Attributes
    ----------
    shard_rows : rows of each file.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self._name, self._shards = name, [NpySource(path) for path in paths]
        self.skipped: Mapping[str, str] = {}
        specs = [next(iter(shard.specs().values())) for shard in self._shards]
        first_shape, first_dtype = specs[0]
        for path, (shape, dtype) in zip(paths, specs, strict=True):
            if not shape or shape[1:] != first_shape[1:] or dtype != first_dtype:
                raise InputError(
                    f"{path} has shape {shape} of {dtype}, but {paths[0]} has {first_shape} of "
                    f"{first_dtype}. Shards of one array may differ only in their number of rows."
                )
        self.shard_rows = [shape[0] for shape, _ in specs]
        self._spec = ((sum(self.shard_rows), *first_shape[1:]), first_dtype)

    def specs(self) -> Specs:
        """(shape, dtype) of the whole array."""
        return {self._name: self._spec}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start`` in blocks of ``rows`` rows."""
        if name != self._name:
            raise InputError(f"there is no array {name!r}")
        return rechunk(self._pieces(rows, start), rows)

    def _pieces(self, rows: int, start: int) -> Iterator[Array]:
        first = 0
        for shard, count in zip(self._shards, self.shard_rows, strict=True):
            if first + count > start:
                yield from shard.blocks(shard.name, rows, max(0, start - first))
            first += count


class CompositeSource:
    """Several sources as one.

    A name that two sources share gets its source's label in front: ``image_embedding``.
    """

    def __init__(self, parts: Mapping[str, Source], skipped: Mapping[str, str]) -> None:
        self._members: dict[str, tuple[Source, str]] = {}
        self.skipped = dict(skipped)
        names = [name for part in parts.values() for name in part.specs()]
        for label, part in parts.items():
            for name in part.specs():
                full_name = name if names.count(name) == 1 else f"{label}_{name}"
                if full_name in self._members:
                    raise InputError(f"two arrays are named {full_name}. Rename one of them.")
                self._members[full_name] = part, name
            self.skipped |= {f"{label}.{name}": reason for name, reason in part.skipped.items()}

    def specs(self) -> Specs:
        """(shape, dtype) of every array of every source."""
        return {name: part.specs()[inner] for name, (part, inner) in self._members.items()}

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start`` in blocks of ``rows`` rows."""
        part, inner = self._members[name]
        return part.blocks(inner, rows, start)


def open_files(paths: Sequence[Path]) -> CompositeSource:
    """Open several files or folders as one source."""
    parts: dict[str, Source] = {}
    for path in paths:
        if path.stem in parts:
            raise InputError(f"two sources are named {path.stem}. Rename one of them.")
        parts[path.stem] = open_source(path)
    return CompositeSource(parts, {})


def open_folder(path: Path) -> CompositeSource:
    """Open a folder of files, and of folders of shards.

    Files whose names differ only in a number are shards, in the order of the numbers. If all files
    of an inner folder are shards of one array or table, the folder's name is the name of that array
    or table (``img_emb/img_emb_0.npy``).
    """
    groups, skipped = _shard_groups(path)
    for child in sorted(path.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        if is_zarr(child):
            groups[child.stem] = [child]
            continue
        inner_groups, inner_skipped = _shard_groups(child)
        skipped |= {f"{child.name}/{name}": reason for name, reason in inner_skipped.items()}
        for name, files in inner_groups.items():
            label = child.name if len(inner_groups) == 1 else name
            if label in groups:
                raise InputError(
                    f"{path}: two groups of files are named {label}. Rename one of them."
                )
            groups[label] = files
    if not groups:
        raise InputError(
            f"{path} has no file of a known format and no folder of such files; known endings: "
            f"{', '.join(ENDINGS)}"
        )
    parts = {name: _open_group(name, files) for name, files in groups.items()}
    _refuse_unpaired_shards(path, groups, parts)
    return CompositeSource(parts, skipped)


def _shard_groups(folder: Path) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Files of each array or table in shard order, and the skipped files with the reason."""
    groups: dict[tuple[str, str], list[Path]] = {}
    skipped = {}
    for file in sorted(folder.iterdir(), key=_shard_order):
        if file.is_dir() or file.name.startswith((".", "_")):
            continue
        if is_known(file):
            groups.setdefault((_shard_name(file), file.suffix.lower()), []).append(file)
        else:
            skipped[file.name] = "unknown format"
    named: dict[str, list[Path]] = {}
    for (name, _), files in groups.items():
        label = name if len(files) > 1 else files[0].stem
        if label in named:
            raise InputError(f"{folder}: {label} exists in two formats. Move one of them away.")
        named[label] = files
    return named, skipped


def _open_group(name: str, files: Sequence[Path]) -> Source:
    suffix = files[0].suffix.lower()
    if suffix == ".npy":
        return ShardedNpy(name, files)
    if suffix in TABLES:
        return SandboxedSource(*files)
    if len(files) > 1:
        listing = ", ".join(file.name for file in files[:_LISTED])
        raise InputError(
            f"{files[0].parent}: {listing}: only .npy, {', '.join(TABLES)} files are read as "
            "shards. Merge these into one file."
        )
    return open_source(files[0])


def _refuse_unpaired_shards(
    folder: Path, groups: Mapping[str, Sequence[Path]], parts: Mapping[str, Source]
) -> None:
    """Refuse shards of one number with unequal rows: from there on rows are not pairs."""
    rows: dict[str, dict[str, int]] = {}
    for name, part in parts.items():
        if isinstance(part, ShardedNpy | SandboxedSource) and part.shard_rows:
            for file, count in zip(groups[name], part.shard_rows, strict=True):
                if _shard_number(file):
                    rows.setdefault(_shard_number(file), {})[name] = count
    unpaired = [
        f"shard {number}: " + ", ".join(f"{name} {count}" for name, count in counts.items())
        for number, counts in rows.items()
        if len(set(counts.values())) > 1
    ]
    totals = {name: sum(counts.get(name, 0) for counts in rows.values()) for name in parts}
    sharded = {name for counts in rows.values() for name in counts}
    missing = [
        f"shard {number}: no {', '.join(sorted(sharded - set(counts)))}"
        for number, counts in rows.items()
        if set(counts) != sharded
    ]
    if len({totals[name] for name in sharded}) > 1:
        unpaired += missing
    if unpaired:
        listing = "; ".join(unpaired[:_LISTED]) + ("; …" if len(unpaired) > _LISTED else "")
        raise InputError(
            f"{folder}: {len(unpaired)} shards do not pair (rows by array): {listing}. Write them "
            "again: shards of one number need the same rows in every array."
        )


def _shard_name(path: Path) -> str:
    """The stem without its number and count: part-00000-of-00010 is a shard of part."""
    return re.sub(r"[-_.]?\d+(-of-\d+)?$", "", path.stem) or "part"


def _shard_number(path: Path) -> str:
    match = re.search(r"(\d+)(-of-\d+)?$", path.stem)
    return str(int(match[1])) if match else ""


def _shard_order(path: Path) -> tuple[str, int, str]:
    return _shard_name(path), int(_shard_number(path) or -1), path.name
