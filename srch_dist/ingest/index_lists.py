"""Make the array ``split`` from lists of row numbers, such as param_tr and indexQuery."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from srch_dist.errors import ConfigError, InputError
from srch_dist.ingest.naming import index_part
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.ingest.sources.contents import may_be_modality
from srch_dist.ingest.stacking import SPLIT
from srch_dist.kernels.types import Array, IntArray

# Value of each part in the array ``split``. Rows in no list get _UNUSED if a list train or database
# exists, else 0.
_NUMBERS = {"train": 0, "database": 0, "query": 1}
_UNUSED = 2
_BLOCK_ROWS = 1 << 20


@dataclass(frozen=True)
class IndexLists:
    """The lists of row numbers that make a split.

    Attributes
    ----------
    parts : name of the array that lists a part's row numbers, by part of the split: ``query``
        (split 1), and ``train`` or ``database`` (split 0).
    base : number of the first row, 0 or 1. None means 0, except for a .mat file. For a .mat file,
        None means 0 if a list contains 0, and 1 if a list contains the number of rows.
    matlab : whether the source is a .mat file.
    """

    parts: Mapping[str, str]
    base: int | None = None
    matlab: bool = False


def parse_lists(items: Sequence[str] | None, base: int | None) -> IndexLists | None:
    """Parse the options --split-from (``query=ARRAY``, ``train=ARRAY``) and --index-base.

    Returns None without --split-from.

    Raises
    ------
    ConfigError : a list is not named query, train or database; the list query is missing; the lists
        train and database are both given; or --index-base is given without --split-from.
    """
    if items is None:
        if base is not None:
            raise ConfigError(
                f"--index-base is {base}, but --split-from is not given. Add --split-from."
            )
        return None
    parts = dict(item.partition("=")[::2] for item in items)
    wrong = [part for part in parts if part not in _NUMBERS or not parts[part]]
    if (
        wrong
        or "query" not in parts
        or len(parts) != len(items)
        or {"train", "database"} <= {*parts}
    ):
        raise ConfigError(
            f"--split-from is {','.join(items)!r}; write query=ARRAY or query=ARRAY,train=ARRAY. "
            "'database=ARRAY' means the same as 'train=ARRAY'."
        )
    if base not in (None, 0, 1):
        raise ConfigError(f"--index-base is {base}, expected 0 or 1 (the number of the first row)")
    return IndexLists(parts, base)


class IndexedSource:
    """A `Source` whose array ``split`` comes from lists of row numbers."""

    def __init__(self, source: Source, lists: IndexLists, rows: int) -> None:
        self._source = source
        self.skipped = source.skipped
        self.unreadable, self.side_only = source.unreadable, source.side_only
        self.joined = source.joined
        self._specs = {
            name: spec for name, spec in source.specs().items() if name not in lists.parts.values()
        }
        self._split = _make_split(source, lists, rows)
        self._specs[SPLIT] = self._split.shape, self._split.dtype

    def specs(self) -> Specs:
        """Return (shape, dtype) of every array, with ``split`` in place of the lists."""
        return self._specs

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        if name != SPLIT:
            return self._source.blocks(name, rows, start)
        return (self._split[at : at + rows] for at in range(start, len(self._split), rows))


def index_split(
    source: Source,
    lists: IndexLists | None,
    modalities: Sequence[str] | None,
    side: Sequence[str] | None,
) -> tuple[Source, Sequence[str] | None]:
    """Add the array ``split``, made from lists of row numbers.

    Returns the source with ``split``, and the option ``side`` with ``split`` appended; a ``side``
    of None stays None. If ``lists`` is None, returns ``source`` and ``side`` unchanged.

    Raises
    ------
    InputError : an array of ``lists`` does not exist or does not hold row numbers, or the source
        already has an array ``split``.
    """
    if lists is None:
        return source, side
    specs = source.specs()
    for array in lists.parts.values():
        if array in source.unreadable:
            raise InputError(f"{array} {source.unreadable[array]}")
        if array not in specs:
            raise InputError(
                f"--split-from: there is no array {array!r}; the source has: {', '.join(specs)}"
            )
    named = [item.partition("=")[0] for item in side or ()]
    if SPLIT in named or (SPLIT in specs and SPLIT not in lists.parts.values()):
        raise InputError(
            "the source already has an array 'split'. Omit --split-from, or remove the array."
        )
    arrays = [item.partition("=")[2] or item for item in modalities or ()]
    arrays = arrays or [name for name, spec in specs.items() if may_be_modality(*spec)]
    rows = max(
        (specs[name][0][0] for name in arrays if name in specs and specs[name][0]), default=0
    )
    return IndexedSource(source, lists, rows), side if side is None else [*side, SPLIT]


def hint_lists(specs: Specs, rows: int) -> str:
    """Suggest the option --split-from for arrays that look like lists of row numbers.

    Returns one line, or "" if no array looks like a list of the row numbers of queries.
    """
    found: dict[str, str] = {}
    for name, (shape, dtype) in specs.items():
        part = index_part(name)
        values = max(shape, default=0)
        vector = len([size for size in shape if size != 1]) == 1
        if part in _NUMBERS and vector and dtype.kind in "iuf" and values < rows:
            found.setdefault(part, name)
    if "query" not in found:
        return ""
    if "train" in found:
        found.pop("database", None)
    items = ",".join(
        f"{part}={found[part]}" for part in ("query", "train", "database") if part in found
    )
    verb = "look like lists" if len(found) > 1 else "looks like a list"
    return (
        f"{', '.join(found.values())} {verb} of row numbers. To make a split, type: "
        f"--split-from {items}"
    )


def _make_split(source: Source, lists: IndexLists, rows: int) -> Array:
    """Return ``split`` (rows,) uint8; raise InputError for a wrong or repeated row number."""
    read = {part: _read_list(source, array) for part, array in lists.parts.items()}
    base = _base(read, lists, rows)
    listed = any(_NUMBERS[part] == 0 for part in read)
    split = np.full(rows, _UNUSED if listed else 0, np.uint8)
    owners: dict[str, IntArray] = {}
    for part, numbers in read.items():
        array, zero_based = lists.parts[part], numbers - base
        wrong = np.flatnonzero((zero_based < 0) | (zero_based >= rows))
        if len(wrong):
            hint = " If rows are numbered from 1, add --index-base 1." if base == 0 else ""
            raise InputError(
                f"{array} entry {wrong[0]} is {numbers[wrong[0]]}, expected {base} to "
                f"{rows - 1 + base} for {rows} rows.{hint}"
            )
        places = np.full(rows, -1, np.int64)
        places[zero_based[::-1]] = np.arange(len(numbers))[::-1]  # first place of each number
        twice = np.flatnonzero(places[zero_based] != np.arange(len(numbers)))
        if len(twice):
            row = zero_based[twice[0]]
            raise InputError(
                f"{array} lists row {row + base} twice, in entries {places[row]} and {twice[0]}. "
                "Remove one of these entries."
            )
        owners[part] = places
        split[zero_based] = _NUMBERS[part]
    for left, right in itertools.combinations(owners, 2):
        both = np.flatnonzero((owners[left] >= 0) & (owners[right] >= 0))
        if len(both):
            row = both[0]
            raise InputError(
                f"{lists.parts[left]} and {lists.parts[right]} share {len(both)} rows: row "
                f"{row + base} is entry {owners[left][row]} of {lists.parts[left]} and entry "
                f"{owners[right][row]} of {lists.parts[right]}. Remove shared rows from one list."
            )
    return split


def _read_list(source: Source, array: str) -> IntArray:
    """Read a list of m row numbers as (m,) int64.

    The source may store the list as (m,), (1, m) or (m, 1), and as floating-point numbers.
    """
    shape, dtype = source.specs()[array]
    if len([size for size in shape if size != 1]) > 1 or not shape or dtype.kind not in "iuf":
        raise InputError(f"{array} has shape {shape} of {dtype}; expected a list of row numbers")
    blocks = [np.ravel(block) for block in source.blocks(array, _BLOCK_ROWS)]
    values = np.concatenate(blocks) if blocks else np.empty(0, dtype)
    whole = np.isfinite(values) & (np.abs(values.astype(np.float64)) < 2**53)
    whole &= np.where(whole, values, 0) % 1 == 0
    if not whole.all():
        entry = int(np.flatnonzero(~whole)[0])
        raise InputError(f"{array} entry {entry} is {values[entry]}; expected a row number")
    if not len(values):
        raise InputError(f"{array} is empty; expected a list of row numbers")
    return values.astype(np.int64)


def _base(read: Mapping[str, IntArray], lists: IndexLists, rows: int) -> int:
    """Return the number of the first row: ``lists.base`` or, if that is None, 0 or 1.

    ``read`` has the row numbers of each list. For a .mat file, these row numbers decide between 0
    and 1. Raises InputError if both are possible.
    """
    if lists.base is not None:
        return lists.base
    least = min(int(numbers.min()) for numbers in read.values())
    most = max(int(numbers.max()) for numbers in read.values())
    if not lists.matlab or least < 1:
        return 0
    if most == rows:
        return 1
    raise InputError(
        f"{', '.join(lists.parts.values())}: row numbers {least} to {most} for {rows} rows. The "
        "first row can be 0 or 1. Add --index-base 1 (as in MATLAB) or --index-base 0."
    )
