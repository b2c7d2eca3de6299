"""What a source holds: readable arrays, and the reason of every other one.

The rules for dtypes stand here once, for every format: `Contents.add` decides from a dtype whether
an array is readable, and `Contents.fold_sparse` recognises the parts of a sparse matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources import reasons
from srch_dist.kernels.types import Array

TEXT = np.dtypes.StringDType()
# Name endings of the parts of a sparse matrix: CSR and CSC, MATLAB v7.3, COO, DIA.
_SPARSE_PARTS: tuple[tuple[str, ...], ...] = (
    ("data", "indices", "indptr"),
    ("data", "ir", "jc"),
    ("data", "row", "col", "shape"),
    ("data", "offsets", "shape"),
)
_SPARSE_EXTRAS = ("format", "shape", "_is_array")


@dataclass
class Contents:
    """Arrays of a source by name, each in one of `specs`, `skipped` and `unreadable`.

    Attributes
    ----------
    specs : (shape, dtype) of the readable arrays, in the order of the source.
    skipped : what is neither numbers nor text, with the reason.
    unreadable : what looks like data but cannot be read whole or trusted. The reason ends with what
        to do.
    side_only : unreadable arrays that are not (n, d) floating-point numbers, and so no modality
        unless an option names them.
    joined : for arrays in several files, the names of these files.
    """

    specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    side_only: set[str] = field(default_factory=set)
    joined: dict[str, Sequence[str]] = field(default_factory=dict)

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Record an array where its dtype says; return whether it is readable."""
        if dtype.kind == "T":
            self.specs[name] = shape, dtype
        elif dtype.hasobject:
            self.refuse(name, reasons.OBJECTS, side_only=len(shape) != 2)
        elif dtype.kind == "V" and dtype.names is None and dtype.itemsize == 2:
            self.refuse(name, reasons.untyped_bfloat16(name), side_only=len(shape) != 2)
        elif dtype.kind == "S":
            self.refuse(name, reasons.BYTES, side_only=True)
        elif dtype.kind in "fiub":
            self.specs[name] = shape, dtype
        elif dtype.kind == "U":
            self.specs[name] = shape, dtype.newbyteorder("=")
        else:
            self.skipped[name] = f"{dtype} is neither numbers nor text"
        return name in self.specs

    def refuse(self, name: str, reason: str, side_only: bool | None = None) -> None:
        """Record an array as unreadable; if ``side_only`` is None, what is known of it decides."""
        spec = self.specs.pop(name, None)
        if side_only is None:
            side_only = spec is not None and not may_be_modality(*spec)
        self.unreadable[name] = reason if reason.endswith(".") else f"{reason}."
        (self.side_only.add if side_only else self.side_only.discard)(name)

    @contextmanager
    def describing(self, path: Path, name: str) -> Iterator[None]:
        """Turn the refusal of one array into the reason that it is unreadable."""
        try:
            yield
        except InputError as error:
            self.refuse(name, str(error).removeprefix(f"{path}: ").removeprefix(f"{name} "))

    def fold_sparse(self, whole: str, line: Callable[[str], str]) -> None:
        """Replace the parts of every sparse matrix by one unreadable array.

        Parameters
        ----------
        whole : name of a matrix whose parts have no prefix, such as ``data`` and ``indptr``.
        line : code that converts the matrix of a prefix.
        """
        names = {*self.specs, *self.skipped, *self.unreadable}
        for prefix in sorted(
            {name.removesuffix("data") for name in names if name.endswith("data")}
        ):
            for parts in _SPARSE_PARTS:
                members = {prefix + part for part in parts}
                # One part may stand for itself: a table often has a column named row.
                if not members <= names or not self._are_sparse(prefix, parts):
                    continue
                for name in members | {prefix + extra for extra in _SPARSE_EXTRAS}:
                    self.specs.pop(name, None)
                    self.skipped.pop(name, None)
                    self.unreadable.pop(name, None)
                    self.side_only.discard(name)
                self.refuse(prefix.rstrip("_.-/") or whole, reasons.sparse(line(prefix)))
                break

    def _are_sparse(self, prefix: str, parts: Sequence[str]) -> bool:
        """Whether the parts are vectors of numbers; the data of a BSR matrix have three axes."""
        specs = [self.specs.get(prefix + part) for part in parts]
        return all(
            spec is not None and (len(spec[0]) == 1 or part == "data") and spec[1].kind in "fiub"
            for part, spec in zip(parts, specs, strict=True)
        )


class ListedSource(ABC):
    """The part of a `Source` that every reader shares: the lists of its `contents`."""

    def __init__(self) -> None:
        self.contents = Contents()

    @property
    def skipped(self) -> Mapping[str, str]:
        """What is neither numbers nor text: names, each with the reason."""
        return self.contents.skipped

    @property
    def unreadable(self) -> Mapping[str, str]:
        """What looks like data but cannot be read; the reason ends with what to do."""
        return self.contents.unreadable

    @property
    def side_only(self) -> Collection[str]:
        """Unreadable arrays that are no modality unless an option names them."""
        return self.contents.side_only

    @property
    def joined(self) -> Mapping[str, Sequence[str]]:
        """For arrays in several files, the names of these files."""
        return self.contents.joined

    @abstractmethod
    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array from row ``start``, in order, in blocks of ``rows`` rows."""

    def specs(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """(shape, dtype) of every readable array by name, in the order of the source."""
        return dict(self.contents.specs)


def may_be_modality(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether an array is (n, d) floating-point numbers, a modality by default."""
    return len(shape) == 2 and dtype.kind == "f"


def promoted(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any] | None:
    """The dtype that holds the values of all; None if there is none.

    Integers become float64 beside floating-point numbers; `reasons.converted` refuses those that do
    not fit. No other kinds mix.
    """
    kinds = {dtype.kind for dtype in dtypes}
    if not (kinds <= set("iuf") or kinds in ({"U"}, {"b"}, {"T"})):
        return None
    dtype = np.result_type(*dtypes)
    return None if dtype.kind == "f" and "f" not in kinds else dtype  # int64 and uint64


def native_text(block: Array) -> Array:
    """Convert text to native byte order, the only one that NumPy converts to StringDType."""
    if block.dtype.kind != "U":
        return block
    return block.astype(block.dtype.newbyteorder("="), copy=False)
