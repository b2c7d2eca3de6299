"""Stack arrays of training and test rows, such as I_tr and I_te; add an array ``split``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.sources.base import Source, Specs, rechunk
from srch_dist.kernels.types import Array

SPLIT = "split"


class StackedSource:
    """A `Source` in which the array ``a+b`` has the rows of ``a`` followed by the rows of ``b``.

    The added array ``split`` holds each row's part: 0 for the first part, 1 for the second.
    """

    def __init__(self, source: Source, stacks: Sequence[str], numbered: bool) -> None:
        """Stack the arrays that ``stacks`` name; if ``numbered``, add the array ``split``."""
        self._source = source
        self.skipped = source.skipped
        self.unreadable, self.side_only = source.unreadable, source.side_only
        self.joined = source.joined
        self._specs = dict(source.specs())
        self._parts = {stack: self._check(stack) for stack in stacks}
        lengths = {stack: self._lengths(stack) for stack in stacks}
        self._part_rows = next(iter(lengths.values()))
        if len(set(lengths.values())) > 1:
            listing = "; ".join(
                f"{stack} {' + '.join(map(str, rows))}" for stack, rows in lengths.items()
            )
            raise InputError(
                "the corresponding parts of stacked arrays must have equal numbers of rows, but "
                f"have: {listing}"
            )
        stacked = {}
        for stack, parts in self._parts.items():
            dtype = np.result_type(*(self._specs[part][1] for part in parts))
            shape = self._specs[parts[0]][0]
            stacked[stack] = (sum(self._part_rows), *shape[1:]), dtype
        # Remove the parts: their rows do not pair with the rows of the stacked arrays.
        self._specs = {
            name: spec
            for name, spec in self._specs.items()
            if not any(name in parts for parts in self._parts.values())
        } | stacked
        if numbered:
            self._specs[SPLIT] = (sum(self._part_rows),), np.dtype(np.uint8)
        self._numbered = numbered

    def specs(self) -> Specs:
        """Return (shape, dtype) of every array; stacked arrays come last."""
        return self._specs

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        if name in self._parts:
            return rechunk(self._pieces(name, rows, start), rows)
        if name == SPLIT and self._numbered:
            numbers = np.arange(len(self._part_rows), dtype=np.uint8).repeat(self._part_rows)
            return (numbers[at : at + rows] for at in range(start, len(numbers), rows))
        return self._source.blocks(name, rows, start)

    def is_part_sized(self, rows: int) -> bool:
        """Whether any stacked part has ``rows`` rows; an array of that size may be a part, too."""
        return rows in self._part_rows

    def _pieces(self, stack: str, rows: int, start: int) -> Iterator[Array]:
        first, dtype = 0, self._specs[stack][1]
        for part, count in zip(self._parts[stack], self._part_rows, strict=True):
            if first + count > start:
                for block in self._source.blocks(part, rows, max(0, start - first)):
                    # Text keeps its own dtype: the width of a text dtype does not change the text.
                    yield block.astype(dtype, copy=False) if dtype.kind != "U" else block
            first += count

    def _check(self, stack: str) -> list[str]:
        parts = stack.split("+")
        for part in parts:
            if part in self.unreadable:
                raise InputError(f"{part} {self.unreadable[part]}")
            if part not in self._specs:
                raise InputError(
                    f"there is no array {part!r} to stack as {stack}; the source has: "
                    f"{', '.join(self._specs)}"
                )
        shape, dtype = self._specs[parts[0]]
        for part in parts[1:]:
            other_shape, other_dtype = self._specs[part]
            text = [kind in "UT" for kind in (dtype.kind, other_dtype.kind)]
            if not shape or not other_shape or other_shape[1:] != shape[1:] or text[0] != text[1]:
                raise InputError(
                    f"{parts[0]} has shape {shape} of {dtype}, but {part} has {other_shape} of "
                    f"{other_dtype}. Stacked arrays may differ only in their number of rows."
                )
        return parts

    def _lengths(self, stack: str) -> tuple[int, ...]:
        return tuple(self._specs[part][0][0] for part in self._parts[stack])


def stack_arrays(
    source: Source, modalities: Sequence[str] | None, side: Sequence[str] | None
) -> tuple[Source, Sequence[str] | None]:
    """Stack the arrays that the options name as ``a+b``, and add the array ``split``.

    Returns
    -------
    source : the source with stacked arrays, or the same source if no option names one.
    side : None if ``side`` is None; else ``side``, plus ``split`` if that array was added.
    """
    known = source.specs()
    named = [item.partition("=")[::2] for item in (*(modalities or ()), *(side or ()))]
    arrays = dict.fromkeys(array or name for name, array in named)
    stacks = [array for array in arrays if "+" in array and array not in known]
    if not stacks:
        return source, side
    numbered = all(name != SPLIT for name, _ in named)
    if side is not None and numbered:
        side = [*side, SPLIT]
    return StackedSource(source, stacks, numbered), side
