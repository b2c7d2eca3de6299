"""The one writer: any source's arrays, checked as they stream, into a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import ConfigError, InputError
from srch_dist.ingest.source import Source, Specs, open_source
from srch_dist.kernels.features import invalid_rows
from srch_dist.progress import Progress, silent
from srch_dist.storage.features import FeatureStore, FeatureWriter, check_name

_CHUNK_BYTES = 32 << 20
# These describe rows; of another length they are a mistake, not an attribute.
_ROW_ARRAYS = ("labels", "split", "ids", "titles")
_ATTRIBUTE_VALUES = 100_000


def ingest_source(
    source: str | Path,
    store: str | Path,
    modalities: Sequence[str] | None = None,
    rows_per_chunk: int | None = None,
    progress: Progress | None = None,
) -> FeatureStore:
    """Turn a source of paired features into a feature store.

    2-D floating-point arrays are modalities unless ``modalities`` names them; other arrays of n
    rows ride along, the rest become attributes. Rows are checked before they are written, and
    nothing is left behind when any is refused.

    Raises
    ------
    InputError : the source is damaged, or its arrays cannot be paired features.
    StorageError : the store is there already or cannot be written.
    """
    progress = progress or silent()
    if rows_per_chunk is not None and rows_per_chunk < 1:
        raise ConfigError(f"rows_per_chunk is {rows_per_chunk}, it has to be at least 1")
    opened = open_source(source)
    specs = opened.specs()
    names = _choose_modalities(specs, modalities)
    rows = _paired_rows(specs, names)
    side = _side_arrays(specs, names, rows)
    attributes = _read_attributes(opened, specs, set(names) | set(side))
    per_chunk = rows_per_chunk or _default_chunk(specs, names, rows)
    chosen = {name: specs[name] for name in [*names, *side]}
    writer = FeatureWriter(store, chosen, names, per_chunk)
    try:
        with progress.stage("ingest", len(chosen) * -(-rows // per_chunk)) as stage:
            for name in chosen:
                start = 0
                for block in opened.blocks(name, per_chunk):
                    if name in names or name == "labels":
                        _refuse_invalid(source, name, block, start)
                    if block.dtype.kind == "U":
                        _refuse_unwritable(source, name, block, start)
                    writer.write(name, start, block)
                    start += len(block)
                    stage.advance()
        return writer.finish(attributes)
    except BaseException:
        writer.discard()
        raise


def _choose_modalities(specs: Specs, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities' names, told or guessed, checked for shape and dtype."""
    if wanted is None:
        names = [
            name
            for name, (shape, dtype) in specs.items()
            if len(shape) == 2 and dtype.kind == "f" and name not in _ROW_ARRAYS
        ]
    else:
        names = list(dict.fromkeys(wanted))
    listing = ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in specs.items())
    for name in names:
        if name not in specs:
            raise InputError(f"there is no array {name!r}; the source has: {listing}")
        shape, dtype = specs[name]
        if dtype.kind not in "fiub" or dtype.itemsize > 8:
            raise InputError(f"{name} is {dtype}; a modality is an array of real numbers")
        if len(shape) != 2 or shape[1] == 0:
            raise InputError(f"{name} has shape {shape}; a modality is (rows, dimensions)")
    if len(names) < 2:
        found = names[0] if names else "none"
        raise InputError(
            f"at least two modalities are needed, found {found}; name 2-D arrays with "
            f"--modalities a,b; the source has: {listing}"
        )
    return tuple(names)


def _paired_rows(specs: Specs, names: Sequence[str]) -> int:
    """n, the same in every modality and in the arrays that describe rows."""
    counts = {name: specs[name][0][0] for name in names}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"modalities are paired by row, but have unequal rows: {listing}")
    rows = counts[names[0]]
    if rows < 2:
        found = "no rows" if rows == 0 else "one row"
        raise InputError(f"the modalities have {found}; at least two are needed")
    for name in _ROW_ARRAYS:
        if name in specs and specs[name][0][:1] != (rows,):
            raise InputError(f"{name} has shape {specs[name][0]}, expected {rows} rows")
    return rows


def _side_arrays(specs: Specs, names: Sequence[str], rows: int) -> list[str]:
    side = [name for name in specs if name not in names and specs[name][0][:1] == (rows,)]
    for name in side:
        if specs[name][1].kind not in "fiubU":
            raise InputError(f"{name} is {specs[name][1]}; save it as numbers or as text")
    if "labels" in side:
        _check_labels(*specs["labels"])
    if "split" in side and (specs["split"][1].kind not in "iub" or len(specs["split"][0]) != 1):
        raise InputError("split has to be one integer a row: 0 to train on, 1 for queries")
    return side


def _check_labels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Labels are class numbers or names (n,), or multi-hot (n, classes)."""
    if len(shape) == 1 or (len(shape) == 2 and shape[1] > 1 and dtype.kind != "U"):
        return
    raise InputError(
        f"labels has shape {shape} of {dtype}; it has to be one class a row, (n,), or multi-hot "
        "numbers, (n, classes)"
    )


def _read_attributes(source: Source, specs: Specs, taken: set[str]) -> dict[str, Any]:
    """Arrays that do not describe rows, as plain values."""
    values: dict[str, Any] = {}
    for name, (shape, dtype) in specs.items():
        if name in taken:
            continue
        check_name(name)
        size = int(np.prod(shape))
        if size > _ATTRIBUTE_VALUES or dtype.kind not in "fiubU":
            raise InputError(
                f"{name} has shape {shape} of {dtype}: neither rows of the modalities nor a small "
                "attribute; take it out of the source"
            )
        parts = list(source.blocks(name, max(1, size)))
        array = np.concatenate(parts) if parts and shape else np.array(parts).reshape(shape)
        values[name] = array.tolist()
    return values


def _default_chunk(specs: Specs, names: Sequence[str], rows: int) -> int:
    """Rows a chunk, so that a chunk of the widest modality is about 32 MiB."""
    widest = max(specs[name][0][1] * specs[name][1].itemsize for name in names)
    return max(1, min(rows, _CHUNK_BYTES // widest))


def _refuse_invalid(source: str | Path, name: str, block: NDArray[Any], start: int) -> None:
    bad = invalid_rows(block.reshape(len(block), -1))
    if len(bad):
        shown = ", ".join(str(row + start) for row in bad[:5])
        raise InputError(
            f"{source}: {name} holds NaN or Inf in row {shown}"
            f"{', …' if len(bad) > 5 else ''}; mend or remove these rows in every modality"
        )


def _refuse_unwritable(source: str | Path, name: str, block: NDArray[Any], start: int) -> None:
    """Refuse text that UTF-8 cannot hold: lone surrogates."""
    for row, text in enumerate(block.ravel()):
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{source}: {name} holds text that is not valid Unicode in row {row + start}"
            ) from None
