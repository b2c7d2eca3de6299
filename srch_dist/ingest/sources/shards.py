"""Find the files of a folder that are shards of one array or table, and their order.

File names are split into numbers and the text between them. Files whose names differ in one number
only are shards if that number looks like a shard number: ``img_emb_0``, ``part-00003-5d0c…-c000``,
``train-00001-of-00002-4b1f…``, but not ``image_resnet50`` and ``image_resnet101``. Hashes in names
are ignored.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Hashes and endings that writers add: a UUID; a hash of eight or more hexadecimal digits, with at
# least one letter and one digit; the codec of a table.
_UUID = re.compile(r"[-_.]?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"(^|[-_.])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,}(?=$|[-_.])", re.IGNORECASE)
_CODEC = re.compile(r"\.(snappy|gz|gzip|zstd|zst|lz4|brotli|br|uncompressed)$", re.IGNORECASE)
# The total number of shards, and the task number: parts of a name that do not identify the array.
_COUNT = re.compile(r"[-_]of[-_](\d+)", re.IGNORECASE)
_TASK_FILE = re.compile(r"[-_.]c\d{3}$")
# Names of the splits of a data set for training and evaluation.
_SPLIT = re.compile(
    r"(^|[-_.])(train(ing)?|test(ing)?|val(id(ation)?)?|dev|query|queries|database|db|gallery|"
    r"retrieval)([-_.\d]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Family:
    """Files of one array or table, in order.

    Attributes
    ----------
    name : name of the array or table.
    files : one or more files.
    numbers : shard number of each file; "" if the file's name has no shard number. If shards of two
        arrays have the same shard number, these shards must have equally many rows.
    count : total number of shards that the file names state, such as 2 in train-00000-of-00002; 0
        if the names state no total.
    """

    name: str
    files: Sequence[Path]
    numbers: Sequence[str]
    count: int = 0


def find_families(files: Sequence[Path]) -> list[Family]:
    """Group files of one format into arrays or tables by their names."""
    skeletons: dict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for file in files:
        name = _Name.parse(file)
        skeletons[name.text].append(name)
    families: list[Family] = []
    for names in skeletons.values():
        groups = {name.digits: [name] for name in names}
        if len(groups) < len(names):  # only their hashes differ, and hashes have no order
            families += [Family(name.path.stem, [name.path], [""]) for name in names]
            continue
        families += _join(groups)
    return sorted(families, key=lambda family: family.name)


def split_name(name: str) -> str:
    """Extract the split from a file's name: ``train`` of train-00000-of-00002; else ""."""
    match = _SPLIT.search(name)
    return match[2].lower() if match else ""


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key of a path that puts part-10 after part-9."""
    pieces = re.split(r"(\d+)", path.stem)
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in pieces]


@dataclass(frozen=True)
class _Name:
    """A file name without ending, split into alternating text[0], digits[0], text[1] and so on."""

    path: Path
    text: tuple[str, ...]
    digits: tuple[str, ...]

    @classmethod
    def parse(cls, path: Path) -> _Name:
        stem = path.stem
        for ignored in (_CODEC, _UUID, _HASH, _COUNT, _TASK_FILE):
            stem = ignored.sub("", stem)
        pieces = re.split(r"(\d+)", stem)
        return cls(path, tuple(pieces[::2]), tuple(pieces[1::2]))


def _join(groups: Mapping[tuple[str, ...], list[_Name]]) -> list[Family]:
    """Group files into families: within a family, names differ only in shard numbers.

    All names have the same text between their numbers. ``groups`` maps the numbers of a name to
    the files with these numbers.
    """
    columns = [set(seen) for seen in zip(*groups, strict=True)]
    varying = [place for place, seen in enumerate(columns) if len(seen) > 1]
    joined: set[int] = set(varying) if _are_ranges(groups, varying) else set()
    for place in [] if joined else reversed(varying):
        rest: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for digits in groups:
            rest[_without(digits, joined | {place})].add(digits[place])
        several = [numbers for numbers in rest.values() if len(numbers) > 1]
        if several and all(map(_are_shard_numbers, several)):
            joined.add(place)
    families: dict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for digits, names in groups.items():
        families[_without(digits, joined)] += names
    return [_family(names, sorted(joined)) for names in families.values()]


def _without(digits: tuple[str, ...], places: set[int]) -> tuple[str, ...]:
    return tuple(number for place, number in enumerate(digits) if place not in places)


def _are_ranges(groups: Mapping[tuple[str, ...], list[_Name]], varying: Sequence[int]) -> bool:
    """Whether names differ in exactly two numbers that are row ranges: img_0_100, img_100_200.

    ``varying`` has the positions of the numbers in which the names differ.
    """
    if len(varying) != 2:
        return False
    ranges = sorted(tuple(int(digits[place]) for place in varying) for digits in groups)
    pairs = itertools.pairwise(ranges)
    return ranges[0][0] <= 1 and all(
        after[0] in (before[1], before[1] + 1) for before, after in pairs
    )


def _family(names: Sequence[_Name], places: Sequence[int]) -> Family:
    if not places:
        # A single file: the last number may pair it with a shard of another array.
        (name,) = names
        number = str(int(name.digits[-1])) if name.digits and not name.text[-1] else ""
        counted = _COUNT.search(name.path.stem) is not None
        label = _label(name, [len(name.digits) - 1]) if counted and number else name.path.stem
        return Family(label, [name.path], [number], _counted([name.path]))
    keyed = sorted(
        (tuple(int(name.digits[place]) for place in places), name.path) for name in names
    )
    return Family(
        _label(names[0], places),
        [path for _, path in keyed],
        ["-".join(map(str, key)) for key, _ in keyed],
        _counted([path for _, path in keyed]),
    )


def _counted(files: Sequence[Path]) -> int:
    """Extract the total number of shards from the names; 0 if names state none or differ in it."""
    counts = {match[1] if (match := _COUNT.search(file.stem)) else "0" for file in files}
    return int(counts.pop()) if len(counts) == 1 else 0


def _label(name: _Name, places: Sequence[int]) -> str:
    """Return a name without the shard numbers at the indices ``places`` and their separators."""
    digits = ["\0" if place in places else number for place, number in enumerate(name.digits)]
    text = "".join(part for pair in zip(name.text, [*digits, ""], strict=True) for part in pair)
    text = re.sub(r"[-_.]\0(?=[-_.])", "", text)
    return re.sub(r"[-_.]?\0", "", text).strip("-_.") or "part"


def _are_shard_numbers(numbers: set[str]) -> bool:
    """Whether names that differ only in these numbers are names of shards.

    Shard numbers are padded with zeros, begin at 0, or are consecutive. If the numbers begin at 1,
    up to half of the numbers may be missing; a later comparison with other arrays finds missing
    shards.
    """
    if any(len(number) > 1 and number.startswith("0") for number in numbers):
        return True
    values = sorted(map(int, numbers))
    span = values[-1] - values[0] + 1
    return values[0] == 0 or span == len(values) or (values[0] == 1 and span <= 2 * len(values))
