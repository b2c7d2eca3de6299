"""Compare two folders of results: every array by its bits, every document by its fields.

Each side is a folder that one checkout wrote. An item is a Zarr array, or a file outside of one,
by its path in the folder. Both folders must have the same items.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ignored:
    """Fields that are not compared.

    Attributes
    ----------
    items : pattern of the items' paths; ``*`` matches ``/`` too.
    fields : names, at any depth of the document.
    reason : why they may differ.
    """

    items: str
    fields: tuple[str, ...]
    reason: str


_TIMES = "measured time"
_MEMORY = "measured memory"
_PATHS = "path of the data or of the run"
_RESUMED = "says whether the command resumed a run"
# Everything that may differ, and nothing else. plan.json is compared whole: its seconds and bytes
# follow from options and default rates.
IGNORED = (
    Ignored("*history.jsonl", ("seconds", "cg_iteration_seconds"), _TIMES),
    Ignored("*history.jsonl", ("peak_memory",), _MEMORY),
    Ignored("*manifest.json", ("seconds", "cg_iteration_seconds"), _TIMES),
    Ignored("*manifest.json", ("peak_memory",), _MEMORY),
    Ignored("*manifest.json", ("crc32",), "checksum of the manifest, which holds measured times"),
    Ignored("*/z.*.npz", ("seconds",), _TIMES),
    Ignored("*run.json", ("seconds",), _TIMES),
    Ignored("*run.json", ("peak_memory", "stage_peaks"), _MEMORY),
    Ignored("*run.json", ("checksums", "crc32"), "checksums of files that hold times and paths"),
    Ignored("*evaluation.json", ("run", "crc32"), "checksums of files that hold times and paths"),
    Ignored("*.zarr", ("checksums", "checksum_rows"), "follow from the codes"),
    Ignored("*/results/*.json", ("seconds", "cg_iteration_seconds"), _TIMES),
    Ignored("*/results/*.json", ("crc32",), "checksum of the file, which holds measured times"),
    Ignored("*/results/*.json", ("peak_memory", "stage_peaks"), _MEMORY),
    Ignored("*results.json", ("seconds",), _TIMES),
    Ignored("*results.csv", ("seconds",), _TIMES),
    Ignored("*config.yaml", ("data", "out", "work"), _PATHS),
    Ignored("*config.yaml", ("resume",), _RESUMED),
    Ignored("*model.npz", ("versions",), "versions of the packages"),
    Ignored("*model.npz", ("data", "out", "work"), _PATHS),
    Ignored("*model.npz", ("resume",), _RESUMED),
)
# Both sides must have these items, but their content is not compared.
PRESENCE_ALONE = {"*report.html": "the page shows times and memory"}


@dataclass(frozen=True)
class Item:
    """What became of one item: its path, and the first difference or None."""

    name: str
    difference: str | None


def compare_folders(old: Path, new: Path, needed: Sequence[str] = ()) -> list[Item]:
    """Compare all items of two folders.

    Parameters
    ----------
    needed : items that both sides must have. One that neither has counts as a difference.

    Returns
    -------
    An `Item` for each path, those of ``needed`` first.
    """
    names = {"old": list_items(old), "new": list_items(new)}
    others = sorted((names["old"] | names["new"]) - set(needed))
    found = []
    for name in [*needed, *others]:
        missing = [side for side, known in names.items() if name not in known]
        difference = f"missing in {' and '.join(missing)}" if missing else None
        found.append(Item(name, difference or compare_item(name, old, new)))
    return found


def list_items(folder: Path) -> set[str]:
    """Paths, relative to ``folder``, of its Zarr arrays and of the files outside of them."""
    found = set()
    for place, folders, files in os.walk(folder):
        if _is_array(Path(place)):
            found.add(Path(place).relative_to(folder).as_posix())
            folders.clear()
        else:
            found |= {Path(place, file).relative_to(folder).as_posix() for file in files}
    return found


def compare_item(name: str, old: Path, new: Path) -> str | None:
    """The first difference of an item that both folders have; None where it is equal."""
    if any(fnmatchcase(name, pattern) for pattern in PRESENCE_ALONE):
        return None
    compare = compare_array if _is_array(old / name) else _BY_SUFFIX.get(Path(name).suffix)
    if compare is None:
        return None if (old / name).read_bytes() == (new / name).read_bytes() else "bytes differ"
    return compare(old / name, new / name, ignored_fields(name))


def ignored_fields(name: str) -> frozenset[str]:
    """The fields of an item that are not compared."""
    rules = (rule for rule in IGNORED if fnmatchcase(name, rule.items))
    return frozenset(field for rule in rules for field in rule.fields)


def compare_array(old: Path, new: Path, ignored: frozenset[str]) -> str | None:
    """Compare metadata and values of two Zarr arrays."""
    if not _is_array(new):
        return "new has no array there"
    difference = compare_json(old / "zarr.json", new / "zarr.json", ignored)
    if difference is not None:
        return f"zarr.json {difference}"
    before, after = (zarr.open_array(str(path), mode="r")[...] for path in (old, new))
    return compare_values(np.asarray(before), np.asarray(after))


def compare_npz(old: Path, new: Path, ignored: frozenset[str]) -> str | None:
    """Compare the members of two .npz files; ``header`` holds JSON."""
    with np.load(old) as before, np.load(new) as after:
        if set(before.files) != set(after.files):
            return f"members {sorted(before.files)} != {sorted(after.files)}"
        for name in before.files:
            if name in ignored:
                continue
            difference = (
                compare_fields(*(json.loads(str(one[name])) for one in (before, after)), ignored)
                if name == "header"
                else compare_values(before[name], after[name])
            )
            if difference is not None:
                return f"{name} {difference}"
    return None


def compare_values(old: NDArray[Any], new: NDArray[Any]) -> str | None:
    """Compare two arrays bit by bit: NaN equals NaN, and 0.0 differs from -0.0."""
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype} {old.shape} != {new.dtype} {new.shape}"
    if old.dtype.kind in "biufc":
        differs = (_bytes(old) != _bytes(new)).any(axis=1)
    else:
        differs = (old != new).reshape(-1)
    if not differs.any():
        return None
    first = int(differs.argmax())
    place = [int(one) for one in np.unravel_index(first, old.shape)]
    pair = f"{old.reshape(-1)[first]!r} != {new.reshape(-1)[first]!r}"
    count = f"{int(differs.sum())} of {differs.size} values differ"
    if old.dtype == np.uint8:
        count += f", {int(np.bitwise_count(old ^ new).sum())} of {8 * old.size} bits"
    return f"{place}: {pair}; {count}"


def compare_json(old: Path, new: Path, ignored: frozenset[str]) -> str | None:
    """Compare two JSON files."""
    return compare_fields(*(json.loads(path.read_bytes()) for path in (old, new)), ignored)


def compare_lines(old: Path, new: Path, ignored: frozenset[str]) -> str | None:
    """Compare two files of one JSON document a line."""
    before, after = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (old, new)
    )
    return compare_fields(before, after, ignored)


def compare_csv(old: Path, new: Path, ignored: frozenset[str]) -> str | None:
    """Compare two CSV files, cell by cell as text."""
    tables = []
    for path in (old, new):
        with path.open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    return compare_fields(*tables, ignored)


def compare_options(old: Path, new: Path, ignored: frozenset[str]) -> str | None:
    """Compare two YAML files line by line; ``ignored`` names options of the top level."""
    before, after = (
        [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if not _names(line, ignored)
        ]
        for path in (old, new)
    )
    return compare_fields(before, after, frozenset())


def compare_fields(old: Any, new: Any, ignored: frozenset[str], place: str = "") -> str | None:
    """Compare two values of JSON without the fields ``ignored``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys: list[Any] = [key for key in {**old, **new} if key not in ignored]
        missing = [key for key in keys if key not in old or key not in new]
        if missing:
            side = "old" if missing[0] not in old else "new"
            return f"{place}.{missing[0]}: missing in {side}".lstrip(".")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return f"{place}: {len(old)} entries != {len(new)} entries".lstrip(": ")
        keys = list(range(len(old)))
    else:
        # repr tells 1 from 1.0 and takes NaN for equal.
        differs = repr(old) != repr(new)
        return f"{place}: {old!r} != {new!r}".lstrip(": .") if differs else None
    for key in keys:
        step = f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}"
        difference = compare_fields(old[key], new[key], ignored, step.lstrip("."))
        if difference is not None:
            return difference
    return None


def _is_array(folder: Path) -> bool:
    path = folder / "zarr.json"
    return path.is_file() and json.loads(path.read_bytes()).get("node_type") == "array"


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes (size, itemsize) of the values."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.dtype.itemsize)


def _names(line: str, options: frozenset[str]) -> bool:
    return line.partition(":")[0] in options


_BY_SUFFIX: Mapping[str, Callable[[Path, Path, frozenset[str]], str | None]] = {
    ".npz": compare_npz,
    ".json": compare_json,
    ".jsonl": compare_lines,
    ".csv": compare_csv,
    ".yaml": compare_options,
}
