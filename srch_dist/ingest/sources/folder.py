"""Folders as a source: shards of arrays and tables, as clip-retrieval and Spark write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from srch_dist.errors import InputError
from srch_dist.ingest.sources import reasons
from srch_dist.ingest.sources.base import rechunk
from srch_dist.ingest.sources.contents import ListedSource, may_be_modality, promoted
from srch_dist.ingest.sources.formats import ENDINGS, TABLES, is_known, is_zarr, open_source
from srch_dist.ingest.sources.npy import NpySource
from srch_dist.ingest.sources.own_outputs import own_output
from srch_dist.ingest.sources.sandbox import SandboxedSource
from srch_dist.ingest.sources.shards import Family, find_families, natural_order, split_name
from srch_dist.kernels.types import Array

# Maximum number of items that an error message lists.
_LISTED = 5
# Endings of text tables, which no reader reads.
_TEXT_TABLES = (".csv", ".json", ".jsonl", ".tsv", ".txt")
_ONE_SPLIT = (
    "Ingest the files of one split only, or add a column named split to all rows: 0 to train on, 1 "
    "for queries."
)


class ShardedNpy(ListedSource):
    """A `Source` of one array whose rows are divided over several .npy files, called shards.

    Attributes
    ----------
    shard_rows : number of rows of each file.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        super().__init__()
        self._name, self._shards = name, [NpySource(path) for path in paths]
        self.shard_rows: list[int] = []
        with self.contents.describing(paths[0].parent, name):
            self._describe(paths)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        if name not in self.contents.specs:
            raise InputError(f"there is no array {name!r}")
        return rechunk(self._pieces(rows, start), rows)

    def _describe(self, paths: Sequence[Path]) -> None:
        for shard in self._shards:
            for name, reason in shard.unreadable.items():
                side_only = name in shard.side_only
                where = f"cannot be read: {shard.name} " if len(paths) > 1 else ""
                self.contents.refuse(self._name, where + reason, side_only)
            for reason in shard.skipped.values():
                self.contents.skipped[self._name] = f"{shard.name}.npy: {reason}"
        if self.contents.unreadable or self.contents.skipped:
            return
        specs = [shard.specs()[shard.name] for shard in self._shards]
        # A writer without rows saves shape (0,) of float64. Such a shard is not compared.
        filled = [at for at, (shape, _) in enumerate(specs) if not shape or shape[0]]
        compared = filled or range(len(specs))
        first_shape, first_dtype = specs[compared[0]]
        dtype = promoted([specs[at][1] for at in compared])
        for at in compared:
            shape = specs[at][0]
            if (not shape and len(specs) > 1) or shape[1:] != first_shape[1:] or dtype is None:
                raise InputError(
                    f"has unequal shards: {paths[at]} has shape {shape} of {specs[at][1]}, but "
                    f"{paths[compared[0]]} has {first_shape} of {first_dtype}. Shards of one array "
                    "may differ only in their number of rows. If the files are several arrays, "
                    "give them names that differ in more than a number."
                )
        assert dtype is not None
        if not first_shape:
            self.contents.add(self._name, first_shape, dtype)
            return
        for at, (shape, _) in enumerate(specs):
            if at not in compared and shape[1:] != first_shape[1:]:
                self.contents.skipped[paths[at].name] = f"shard without rows, of shape {shape}"
        self.shard_rows = [shape[0] for shape, _ in specs]
        self.contents.add(self._name, (sum(self.shard_rows), *first_shape[1:]), dtype)
        if len(paths) > 1:
            self.contents.joined[self._name] = [path.name for path in paths]

    def _pieces(self, rows: int, start: int) -> Iterator[Array]:
        shape, dtype = self.contents.specs[self._name]
        if not shape:
            yield from self._shards[0].blocks(self._shards[0].name, rows)
            return
        first = 0
        for shard, count in zip(self._shards, self.shard_rows, strict=True):
            if count and first + count > start:
                for block in shard.blocks(shard.name, rows, max(0, start - first)):
                    yield block if block.dtype == dtype else reasons.converted(block, dtype)
            first += count


class CompositeSource(ListedSource):
    """A `Source` of all arrays of several sources.

    If two sources have an array of the same name, each array gets its source's label as a prefix:
    ``image_embedding`` for ``embedding`` of the source ``image``.
    """

    def __init__(self, parts: Mapping[str, ListedSource], skipped: Mapping[str, str]) -> None:
        super().__init__()
        self._members: dict[str, tuple[ListedSource, str]] = {}
        contents = self.contents
        contents.skipped |= skipped
        _refuse_alike(parts)
        names = [name for part in parts.values() for name in (*part.specs(), *part.unreadable)]
        for label, part in parts.items():
            for name in (*part.specs(), *part.unreadable):
                full_name = name if names.count(name) == 1 else f"{label}_{name}"
                if full_name in self._members:
                    raise InputError(f"two arrays are named {full_name}. Rename one of them.")
                self._members[full_name] = part, name
                if name in part.unreadable:
                    reason, side_only = part.unreadable[name], name in part.side_only
                    contents.refuse(full_name, reason, side_only)
                else:
                    contents.specs[full_name] = part.contents.specs[name]
                if name in part.joined:
                    contents.joined[full_name] = part.joined[name]
            for name, reason in part.skipped.items():
                contents.skipped[name if name == label else f"{label}.{name}"] = reason
        contents.fold_sparse(
            "matrix", lambda _: "scipy.sparse.csr_matrix((data, indices, indptr), shape).toarray()."
        )

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        part, inner = self._members[name]
        return part.blocks(inner, rows, start)


def open_files(paths: Sequence[Path]) -> CompositeSource:
    """Open several files or folders as one source; joins files that are shards of one array."""
    groups: dict[str, Family] = {}
    folders: dict[Path, list[Path]] = defaultdict(list)
    _refuse_sharded_folders(paths[0].parent, [path for path in paths if path.is_dir()])
    for path in paths:
        if is_known(path):
            folders[path.parent].append(path)
        else:
            _add(groups, path.parent, Family(path.stem, [path], [""]))
    parts: dict[str, ListedSource] = {}
    for folder, files in folders.items():
        for family in _families(folder, files, inner=False):
            _add(groups, folder, family)
    # In the order of the paths, which becomes the order of the modalities.
    place = {path: at for at, path in enumerate(paths)}
    for name in sorted(groups, key=lambda name: min(place[file] for file in groups[name].files)):
        parts[name] = _open_family(groups[name])
    _refuse_unpaired_shards(paths[0].parent, groups, parts)
    return CompositeSource(parts, _missing_shards(groups))


def open_folder(path: Path) -> CompositeSource:
    """Open a folder of files and of inner folders as one source.

    `shards.find_families` decides which files are shards, and their order. If all files of an inner
    folder are shards of one array or table, that array or table gets the folder's name, such as
    ``img_emb`` for ``img_emb/img_emb_0.npy``.
    """
    groups: dict[str, Family] = {}
    families, skipped = _families_of(path, inner=False)
    for family in families:
        _add(groups, path, family)
    children = [child for child in sorted(path.iterdir()) if _is_source_folder(child)]
    written = {child: what for child in children if (what := own_output(child))}
    if families or len(written) < len(children):
        # Beside its source, a store repeats rows. Alone in a folder, it is the source.
        children = [child for child in children if child not in written]
        skipped |= {child.name: what for child, what in written.items()}
    _refuse_sharded_folders(path, children)
    for child in children:
        if is_zarr(child):
            _add(groups, path, Family(child.stem, [child], [""]))
            continue
        families, inner_skipped = _families_of(child, inner=True)
        skipped |= {f"{child.name}/{name}": reason for name, reason in inner_skipped.items()}
        for family in families:
            label = child.name if len(families) == 1 else family.name
            _add(groups, path, replace(family, name=label))
    if not groups:
        raise InputError(
            f"{path} has no file of a known format and no folder of such files; known endings: "
            f"{', '.join(ENDINGS)}"
        )
    parts = {name: _open_family(family) for name, family in groups.items()}
    _refuse_unpaired_shards(path, groups, parts)
    return CompositeSource(parts, skipped | _missing_shards(groups))


def _is_source_folder(path: Path) -> bool:
    """Whether a path is a folder with data; names of auxiliary folders start with . or _."""
    return path.is_dir() and not path.name.startswith((".", "_"))


def _refuse_sharded_folders(folder: Path, children: Sequence[Path]) -> None:
    """Raise InputError if inner folders (such as Zarr arrays) look like shards of one array."""
    for family in find_families(children):
        if len(family.files) > 1:
            listing = ", ".join(child.name for child in family.files[:_LISTED])
            raise InputError(
                f"{folder}: {listing} look like shards of one array, but are folders. Put the "
                "files of these folders into one folder. If each folder is an array of its own, "
                "give the folders names that differ in more than a number."
            )


def _missing_shards(groups: Mapping[str, Family]) -> dict[str, str]:
    """Describe missing shards, if file names state the number of shards, as in part-0-of-5.

    Returns a text for each array that lacks shards.
    """
    return {
        f"{name} (shards)": (
            f"{family.count - len(family.files)} of {family.count} files are missing"
        )
        for name, family in groups.items()
        if family.count > len(family.files)
    }


def _add(groups: dict[str, Family], folder: Path, family: Family) -> None:
    if family.name in groups:
        raise InputError(
            f"{folder}: two groups of files are named {family.name}. Rename one of them."
        )
    groups[family.name] = family


def _families_of(folder: Path, inner: bool) -> tuple[list[Family], dict[str, str]]:
    """List the arrays and tables of a folder; map the name of each skipped file to the reason.

    ``inner`` is False for the folder of the source, and True for a folder inside it.
    """
    files, skipped = [], {}
    for file in sorted(folder.iterdir()):
        if file.is_dir() or file.name.startswith((".", "_")):
            continue
        if is_known(file):
            files.append(file)
        else:
            skipped[file.name] = _unknown(file)
    return _families(folder, files, inner), skipped


def _families(folder: Path, files: Sequence[Path], inner: bool) -> list[Family]:
    """Group files of one folder into arrays and tables, sorted by name."""
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_suffix[file.suffix.lower()].append(file)
    families: dict[str, Family] = {}
    for suffix, members in by_suffix.items():
        found = find_families(members)
        for family in _join_tables(folder, found, inner) if suffix in TABLES else found:
            if family.name in families:
                raise InputError(
                    f"{folder}: {family.name} exists in two formats. Move one of them away."
                )
            families[family.name] = family
    return sorted(families.values(), key=lambda family: family.name)


def _join_tables(folder: Path, families: Sequence[Family], inner: bool) -> list[Family]:
    """Join the tables of a folder that have the same columns; file names do not matter.

    In an outer folder (``inner`` False), two tables with one column of vectors each stay separate:
    image.parquet and text.parquet are two modalities.
    """
    if len(families) < 2:
        return list(families)
    alike: dict[object, list[Family]] = defaultdict(list)
    for family in families:
        source = SandboxedSource(*family.files)
        vectors = vectors_of(source)
        columns = frozenset({*source.specs(), *source.unreadable, *source.skipped})
        enough = len(vectors) > 1 or (inner and columns)
        alike[(vectors or columns) if enough else family.name].append(family)
    joined = []
    for members in alike.values():
        if len(members) == 1:
            joined.append(members[0])
            continue
        _refuse_splits(folder, members)
        files = [file for member in members for file in member.files]
        files.sort(key=natural_order)
        joined.append(Family(folder.name, files, [""] * len(files)))
    return joined


def _refuse_splits(folder: Path, families: Sequence[Family]) -> None:
    """Raise InputError if tables to join belong to several splits, such as train and test."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for family in families:
        splits[split_name(family.name)] += family.files
    if len(splits) > 1:
        listing = ", ".join(
            f"{split or 'none'} ({files[0].name}{' …' if len(files) > 1 else ''})"
            for split, files in splits.items()
        )
        raise InputError(
            f"{folder} holds tables of the same columns for several splits: {listing}. {_ONE_SPLIT}"
        )


def _refuse_alike(parts: Mapping[str, ListedSource]) -> None:
    """Raise InputError if several sources of a folder have the same modalities.

    Rows of such sources, for example a train and a test file, are not pairs.
    """
    alike: dict[frozenset[tuple[str, int]], list[str]] = defaultdict(list)
    for label, part in parts.items():
        vectors = vectors_of(part)
        if len(vectors) > 1:
            alike[vectors].append(label)
    for vectors, labels in alike.items():
        if len(labels) > 1:
            names = ", ".join(sorted(name for name, _ in vectors))
            raise InputError(
                f"{', '.join(labels[:_LISTED])} hold arrays of the same names ({names}), so rows "
                f"of these files are not pairs. {_ONE_SPLIT}"
            )


def vectors_of(source: ListedSource) -> frozenset[tuple[str, int]]:
    """Return (name, number of dimensions d) of each array that is a modality by default."""
    return frozenset(
        (name, shape[1])
        for name, (shape, dtype) in source.specs().items()
        if may_be_modality(shape, dtype)
    )


def _open_family(family: Family) -> ListedSource:
    files = family.files
    suffix = files[0].suffix.lower()
    if suffix == ".npy" and files[0].is_file():
        return ShardedNpy(family.name, files)
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
    folder: Path, groups: Mapping[str, Family], parts: Mapping[str, ListedSource]
) -> None:
    """Raise InputError if two arrays have shards of one shard number with unequal row counts."""
    rows: dict[str, dict[str, int]] = {}
    for name, part in parts.items():
        if isinstance(part, ShardedNpy | SandboxedSource) and part.shard_rows:
            for number, count in zip(groups[name].numbers, part.shard_rows, strict=True):
                if number:
                    rows.setdefault(number, {})[name] = count
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
            f"{folder}: {len(unpaired)} shards do not pair (row counts by array): {listing}. Write "
            "these shards again: shard i must have the same rows in every array."
        )


def _unknown(file: Path) -> str:
    """Return the reason why a file is skipped; for a text table, also a format to convert it to."""
    if file.suffix.lower() in _TEXT_TABLES:
        return "unknown format; convert it to .parquet (docs/how-to/input-layouts.md)"
    return "unknown format"
