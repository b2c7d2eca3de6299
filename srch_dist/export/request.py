"""What an export writes: the codes, and the side columns of the store that go with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from srch_dist.config.nearest import did_you_mean
from srch_dist.errors import ConfigError, InputError, require
from srch_dist.kernels.types import Packed
from srch_dist.runtime.progress import ProgressStage
from srch_dist.storage.arrow_columns import arrow_column
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.joined_stores import Columns

# Side arrays that an export writes unless other columns are named.
_DEFAULT_COLUMNS = ("ids", "titles")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ExportRequest:
    """Codes of n rows, and options of the formats.

    Attributes
    ----------
    codes : codes of n rows.
    store : feature store that was encoded; None if no side columns are written.
    columns : names of the side arrays of ``store`` to write.
    lists : number of inverted lists of ``faiss-ivf``; None means about 4 √n.
    seed : seed of the samples of ``faiss-ivf``.
    """

    codes: CodeStore
    store: Columns | None = None
    columns: tuple[str, ...] = ()
    lists: int | None = None
    seed: int = 0

    def batches(
        self, code_columns: Callable[[ModuleType, Packed], dict[str, Any]]
    ) -> Iterator[Any]:
        """Yield Arrow tables of consecutive rows: ``row``, the side columns, and columns of codes.

        Deleted rows are left out. ``code_columns`` is called with the module pyarrow and the codes
        of a range of rows.
        """
        pa = require("pyarrow", "export", "an export of columns")
        alive = self.codes.alive()
        for start, run in self.codes.runs():
            kept = np.arange(len(run))
            if alive is not None:
                kept = kept[alive[start : start + len(run)]]
            columns = {"row": pa.array(start + kept)}
            for name in self.columns:
                assert self.store is not None
                values = self.store.read(name, start, start + len(run))
                columns[name] = arrow_column(pa, values[kept])
            if len(kept):
                yield pa.table(columns | code_columns(pa, np.ascontiguousarray(run[kept])))

    @property
    def rows(self) -> int:
        """Number of rows that are not deleted."""
        return self.codes.rows - len(self.codes.deleted)

    def attributes(self) -> dict[str, str]:
        """Return what a reader of the codes has to know, as texts."""
        codes = self.codes
        return {"bits": str(codes.bits), "bitorder": "little", "modality": codes.modality or ""}


# A function that writes an export to a path and advances the progress by rows.
Writer = Callable[[ExportRequest, Path, ProgressStage], None]


def choose_columns(store: Columns | None, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the side columns to write: ``names``, or if None, the ids and titles of the store.

    Raises
    ------
    ConfigError : there is no store, or it has no side array of a name, or a name is reserved.
    """
    if store is None:
        if names:
            raise ConfigError("columns need the feature store that was encoded: give --data")
        return ()
    if names is None:
        return tuple(name for name in _DEFAULT_COLUMNS if name in store.side)
    for name in names:
        if name not in store.side:
            raise ConfigError(
                f"{store.path} has no side column {name!r}; it has "
                f"{', '.join(store.side) or 'none'}{did_you_mean(name, store.side)}"
            )
        if name in ("row", "code"):
            raise ConfigError(f"the side column {name!r} has the name of a column of the export")
    return tuple(dict.fromkeys(names))


def byte_lists(pa: ModuleType, codes: Packed) -> Any:
    """Return codes as an Arrow array of fixed-size lists of uint8."""
    return pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel()), codes.shape[1])


def check_names(columns: Sequence[str], target: str) -> None:
    """Check that ``target`` can hold columns of these names.

    Raises
    ------
    ConfigError : a name has other signs than letters, digits and ``_``.
    """
    for name in columns:
        if not _IDENTIFIER.fullmatch(name):
            raise ConfigError(
                f"{target} cannot have a column {name!r}: it needs letters, digits and _ alone. "
                "Leave the column out with --columns, or rename it at ingest."
            )


def json_texts(table: Any, name: str) -> list[str]:
    """Return the values of a column of an export's table as JSON; raises as `json_text`."""
    rows = table["row"].to_pylist()
    return [
        json_text(value, name, row)
        for row, value in zip(rows, table[name].to_pylist(), strict=True)
    ]


def json_text(value: Any, column: str, row: int) -> str:
    """Return a value of a side column as JSON.

    Raises
    ------
    InputError : it is NaN or infinite, which JSON does not have.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InputError(
            f"row {row} of {column} is {value!r}, which JSON cannot hold; leave the column out "
            "with --columns"
        ) from None
