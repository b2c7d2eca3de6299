"""Check every block of rows before it is written: numbers, labels, split and text."""

from __future__ import annotations

import numpy as np

from srch_dist.errors import InputError
from srch_dist.ingest.schema import TEXT_KINDS
from srch_dist.ingest.sources import reasons
from srch_dist.kernels.features import INVALID_VALUES, invalid_rows
from srch_dist.kernels.retrieval_metrics import invalid_labels
from srch_dist.kernels.types import Array

# Rows that an error message lists before it says "…".
_LISTED = 5


def check_block(label: str, name: str, block: Array, start: int, modality: bool) -> None:
    """Check a block of rows of the array ``name``; the block begins at row ``start`` of the array.

    Raises
    ------
    InputError : NaN or Inf in a modality or in labels, labels that cannot be scored, or text that
        is not valid Unicode. The message lists the rows.
    """
    if block.dtype.kind in TEXT_KINDS:
        _refuse_invalid_text(label, name, block, start)
    elif modality or name == "labels":
        _refuse_invalid_numbers(label, name, block, start)
        if modality and start == 0:
            reasons.refuse_bit_patterns(label, name, block)
        if not modality:
            _refuse_invalid_labels(label, block, start)


def _refuse_invalid_numbers(label: str, name: str, block: Array, start: int) -> None:
    invalid = invalid_rows(block.reshape(len(block), -1))
    if len(invalid):
        rows = ", ".join(str(row + start) for row in invalid[:_LISTED])
        rows += ", …" if len(invalid) > _LISTED else ""
        raise InputError(
            f"{label}: {name} holds {INVALID_VALUES} in row{'s' if len(invalid) > 1 else ''} "
            f"{rows}. Replace the values, or remove these rows from every modality."
        )


def integral_split(label: str, block: Array, start: int) -> Array:
    """Convert a block of ``split`` to integers; raise InputError for NaN, Inf or a fraction."""
    whole = np.isfinite(block) & (np.where(np.isfinite(block), block, 0) % 1 == 0)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise InputError(
            f"{label}: split row {row + start} is {block[row]}, expected an integer: 0 to train "
            "on, 1 for queries"
        )
    return block.astype(np.int64)


def _refuse_invalid_labels(label: str, block: Array, start: int) -> None:
    invalid, problem = invalid_labels(block)
    if len(invalid):
        entries = [(row, np.ravel(block[row])) for row in invalid[:_LISTED]]
        values = "; ".join(
            f"row {row + start}: {next((x for x in entry if x not in (0, 1)), entry[0])}"
            for row, entry in entries
        )
        more = "; …" if len(invalid) > _LISTED else ""
        raise InputError(f"{label}: labels cannot be scored ({values}{more}): {problem}.")


def _refuse_invalid_text(label: str, name: str, block: Array, start: int) -> None:
    """Raise InputError for text with lone surrogates, which UTF-8 cannot encode."""
    for row, text in enumerate(block.ravel()):
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{label}: {name} row {row + start}: text is not valid Unicode. Replace the text."
            ) from None
