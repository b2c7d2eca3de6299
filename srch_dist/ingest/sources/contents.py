"""List the arrays of a source: readable arrays, and other arrays with the reason to refuse them.

Every format uses the rules of this module: `Contents.add` decides from a dtype whether an array is
readable, and `Contents.fold_sparse` recognises the parts of a sparse matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import InputError, StorageUnavailableError
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
    skipped : reason by name, for each entry of the source with other data than numbers or text.
    unreadable : reason by name, for each array that cannot be read completely or cannot be trusted.
        The reason ends with a remedy for the user.
    side_only : names of unreadable arrays that would not be modalities by default, because they are
        not (n, d) floating-point numbers.
    joined : file names by array name, for each array that is stored in several files.
    """

    specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    side_only: set[str] = field(default_factory=set)
    joined: dict[str, Sequence[str]] = field(default_factory=dict)

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Record an array as readable, skipped or unreadable, by its dtype.

        Returns whether the array is readable.
        """
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
        """Record an array as unreadable.

        ``side_only`` says that the array would not be a modality by default. If ``side_only`` is
        None, the recorded shape and dtype of the array decide.
        """
        spec = self.specs.pop(name, None)
        if side_only is None:
            side_only = spec is not None and not may_be_modality(*spec)
        self.unreadable[name] = reason if reason.endswith(".") else f"{reason}."
        (self.side_only.add if side_only else self.side_only.discard)(name)

    @contextmanager
    def describing(self, path: Path, name: str) -> Iterator[None]:
        """Catch an InputError in this context, and record the array ``name`` as unreadable."""
        try:
            yield
        except (InputError, StorageUnavailableError) as error:
            reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{name} ")
            if isinstance(error, StorageUnavailableError):  # the disk failed, not the array
                raise StorageUnavailableError(f"{path}: {name} {reason}") from None
            self.refuse(name, reason)

    def fold_sparse(self, whole: str, line: Callable[[str], str]) -> None:
        """Replace the parts of each sparse matrix by one unreadable array.

        The parts of one matrix share a prefix, such as ``x_data`` and ``x_indptr``.

        Parameters
        ----------
        whole : name for a matrix whose parts have no prefix.
        line : function that returns, for a prefix, Python code that makes the matrix dense. The
            reason of the unreadable array quotes this code.
        """
        names = {*self.specs, *self.skipped, *self.unreadable}
        for prefix in sorted(
            {name.removesuffix("data") for name in names if name.endswith("data")}
        ):
            for parts in _SPARSE_PARTS:
                members = {prefix + part for part in parts}
                # A single part is no sparse matrix: a table often has a column named row.
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
        """Whether a 1-D array of numbers named ``prefix`` + part exists for each of ``parts``.

        The part ``data`` may have more axes, as in SciPy's BSR format.
        """
        specs = [self.specs.get(prefix + part) for part in parts]
        return all(
            spec is not None and (len(spec[0]) == 1 or part == "data") and spec[1].kind in "fiub"
            for part, spec in zip(parts, specs, strict=True)
        )


class ListedSource(ABC):
    """Base class of the readers: a `Source` whose lists of arrays come from its `contents`."""

    def __init__(self) -> None:
        self.contents = Contents()

    @property
    def skipped(self) -> Mapping[str, str]:
        """Reason by name, for each entry of the source with other data than numbers or text."""
        return self.contents.skipped

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Reason by name, for each array that cannot be read completely or cannot be trusted."""
        return self.contents.unreadable

    @property
    def side_only(self) -> Collection[str]:
        """Names of the unreadable arrays that would not be modalities by default."""
        return self.contents.side_only

    @property
    def joined(self) -> Mapping[str, Sequence[str]]:
        """File names by array name, for each array that is stored in several files."""
        return self.contents.joined

    @abstractmethod
    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in order, in blocks of ``rows`` rows."""

    def specs(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return (shape, dtype) of every readable array by name, in the order of the source."""
        return dict(self.contents.specs)


def may_be_modality(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether an array is a modality by default: floating-point numbers of shape (n, d)."""
    return len(shape) == 2 and dtype.kind == "f"


def promoted(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any] | None:
    """Find a dtype to which all given dtypes convert; None if no such dtype exists.

    Integers mixed with floating-point numbers become float64; `reasons.converted` refuses integers
    that float64 cannot hold. Other kinds cannot be mixed.
    """
    kinds = {dtype.kind for dtype in dtypes}
    if not (kinds <= set("iuf") or kinds in ({"U"}, {"b"}, {"T"})):
        return None
    dtype = np.result_type(*dtypes)
    return None if dtype.kind == "f" and "f" not in kinds else dtype  # int64 and uint64


def native_text(block: Array) -> Array:
    """Convert text to native byte order, the only order that NumPy converts to StringDType."""
    if block.dtype.kind != "U":
        return block
    return block.astype(block.dtype.newbyteorder("="), copy=False)
