"""The one writer: any source's arrays, checked as they stream, into a feature store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import ConfigError, InputError
from srch_dist.ingest import limits
from srch_dist.ingest.pairing import check_ids, explain_unequal
from srch_dist.ingest.profile import Survey, survey_table
from srch_dist.ingest.schema import TEXT_KINDS, Layout, UnequalRowsError, choose_layout
from srch_dist.ingest.sources.arrays import ArraySource
from srch_dist.ingest.sources.base import Source, Specs, open_source
from srch_dist.kernels.features import invalid_rows
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage.feature_store import FeatureStore, FeatureWriter
from srch_dist.storage.locations import Location, check_access, local_path, locate
from srch_dist.storage.locks.object_lock import hold_place

_CHUNK_BYTES = 32 << 20
_ATTRIBUTE_VALUES = 100_000


def ingest_source(
    source: str | Path | Sequence[str | Path] | Mapping[str, Any],
    store: str | Location,
    modalities: Sequence[str] | None = None,
    rows_per_chunk: int | None = None,
    progress: Progress | None = None,
    side: Sequence[str] | None = None,
) -> FeatureStore:
    """Turn paired features, in files, folders or arrays by name, into a feature store.

    2-D floating-point arrays are modalities unless ``modalities`` names them (``array`` or
    ``name=array``); other arrays of n rows ride along, or those that ``side`` names, the rest
    become attributes. Rows are checked before they are written, and nothing is left behind when
    any is refused. What was interrupted goes on where it stopped when it is called again.

    Raises
    ------
    InputError : the source is damaged, or its arrays cannot be paired features.
    StorageError : the store is there already or cannot be written.
    """
    progress = progress or silent()
    if rows_per_chunk is not None and rows_per_chunk < 1:
        raise ConfigError(f"rows_per_chunk is {rows_per_chunk}, it has to be at least 1")
    opened: Source
    if isinstance(source, Mapping):
        opened, label, paths = ArraySource(source), "the arrays", None
    else:
        paths = [Path(source)] if isinstance(source, str | Path) else [Path(p) for p in source]
        for given in [source] if isinstance(source, str | Path) else source:
            local_path(given)  # sources lie on disks
        opened, label = open_source(paths), ", ".join(str(path) for path in paths)
    specs = opened.specs()
    try:
        layout = choose_layout(specs, modalities, side)
    except UnequalRowsError as error:
        why = explain_unequal(opened, specs, error.arrays)
        raise InputError(f"{label}: {error}{why}") from None
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    for name, array in layout.rowwise.items():
        limits.refuse_wide(label, name, specs[array][0], specs[array][1].itemsize)
    _say(progress, opened, specs, layout, check_ids(label, opened, specs, layout))
    attributes = _read_attributes(label, opened, specs, layout)
    per_chunk = rows_per_chunk or _default_chunk(specs, layout)
    chosen = {name: specs[array] for name, array in layout.rowwise.items()}
    needed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in chosen.values())
    same = None if paths is None else _fingerprint(paths, chosen, per_chunk)
    place = locate(store)
    check_access(place, write=True)
    with hold_place(place) as check, _beside(place) as scratch:
        # Before there is a writer: what an earlier try has written is not to be taken back for it.
        limits.refuse_full_disk(place, needed)
        writer = FeatureWriter(place, chosen, tuple(layout.modalities), per_chunk, same)
        try:
            surveys = _write_all(opened, layout, label, writer, scratch, progress)
            progress.show(survey_table(layout.rows, surveys, layout.modalities))
            check()
            # An ingest that is killed before it is whole is gone on with, and counts them again.
            hashes = [_hashes(scratch, name) for name in surveys]
            return writer.finish(attributes, hashes)
        except InputError:
            writer.discard()
            raise


@contextmanager
def _beside(place: Location) -> Iterator[Path]:
    """Where hashes of rows are kept while they are counted."""
    if isinstance(place, Path):
        yield place
        return
    with TemporaryDirectory(prefix="srch-dist-") as folder:
        yield Path(folder)


def _hashes(scratch: Path, name: str) -> Path:
    return scratch / f".hashes-{name}"


def _write_all(
    source: Source,
    layout: Layout,
    label: str,
    writer: FeatureWriter,
    scratch: Path,
    progress: Progress,
) -> dict[str, Survey]:
    """Stream every array into the store, from where an earlier try stopped."""
    surveys = {}
    total = len(layout.rowwise) * -(-layout.rows // writer.rows_per_chunk)
    with progress.stage("ingest", total) as stage:
        for name, array in layout.rowwise.items():
            written = writer.written.get(name, 0)
            if written:
                progress.note(f"{name}: going on from row {written}")
                stage.advance(-(-written // writer.rows_per_chunk))
            survey, hashes = None, _hashes(scratch, name)
            if name in layout.modalities:
                shape, dtype = source.specs()[array]
                survey = Survey(**writer.state.get(name, {"dims": shape[1], "dtype": str(dtype)}))
                surveys[name] = survey
            for block in source.blocks(array, writer.rows_per_chunk, written):
                if block.dtype.kind == "U":  # NumPy makes no text of big-endian one
                    block = block.astype(block.dtype.newbyteorder("="), copy=False)
                _check_block(label, name, block, written, survey is not None)
                if survey is not None:
                    survey.add(block, written, hashes)
                    writer.state[name] = survey.state()
                writer.write(name, written, block)
                written += len(block)
                stage.advance()
            if written != layout.rows:
                raise InputError(
                    f"{label}: {name} ends early, after {written} of {layout.rows} rows"
                )
            if survey is not None:
                survey.finish(hashes)
    return surveys


def _check_block(label: str, name: str, block: NDArray[Any], start: int, modality: bool) -> None:
    if block.dtype.kind in TEXT_KINDS:
        _refuse_unwritable(label, name, block, start)
    elif modality or name == "labels":
        _refuse_invalid(label, name, block, start)


def _say(
    progress: Progress, source: Source, specs: Specs, layout: Layout, ids: Sequence[str]
) -> None:
    """Show what was guessed or told, before anything is written."""
    for name, array in layout.modalities.items():
        shape, dtype = specs[array]
        progress.note(f"modality {name}: {array}, {shape[0]} rows of {shape[1]} {dtype}")
    for name, array in layout.side.items():
        dtype = specs[array][1]
        kind = "text" if dtype.kind in TEXT_KINDS else str(dtype)
        progress.note(f"beside it {name}: {array}, {kind}")
    for name, reason in source.left_out.items():
        progress.note(f"left out {name}: {reason}")
    paired = f"rows are paired by {', '.join(ids)}" if len(ids) > 1 else "rows are paired by place"
    progress.note(f"{paired}; say otherwise with --modalities and --side")


def _read_attributes(label: str, source: Source, specs: Specs, layout: Layout) -> dict[str, Any]:
    """Arrays that do not describe rows, as plain values."""
    values: dict[str, Any] = {}
    for name, array in layout.attributes.items():
        shape, dtype = specs[array]
        size = int(np.prod(shape))
        if size > _ATTRIBUTE_VALUES or dtype.kind not in "fiub" + TEXT_KINDS:
            raise InputError(
                f"{label}: {name} has shape {shape} of {dtype}: neither rows of the modalities nor "
                "a small attribute; take it out of the source, or name with --side what to take "
                "along"
            )
        parts = list(source.blocks(array, max(1, size)))
        read = np.concatenate(parts) if parts and shape else np.array(parts).reshape(shape)
        values[name] = read.tolist()
    return values


def _default_chunk(specs: Specs, layout: Layout) -> int:
    """Rows a chunk, so that a chunk of the widest array is about 32 MiB."""
    found = [specs[array] for array in layout.rowwise.values()]
    widest = max(1, *(math.prod(shape[1:]) * dtype.itemsize for shape, dtype in found))
    return max(1, min(layout.rows, _CHUNK_BYTES // widest))


def _fingerprint(paths: Sequence[Path], chosen: Specs, rows_per_chunk: int) -> str:
    """SHA-256 of what is read and how: another one means that nothing can be gone on with."""
    files = sorted(file for path in paths for file in (path, *path.rglob("*")) if file.is_file())
    stats = [(str(file.absolute()), (at := file.stat()).st_size, at.st_mtime_ns) for file in files]
    arrays = {name: [list(shape), str(dtype)] for name, (shape, dtype) in chosen.items()}
    return hashlib.sha256(json.dumps([stats, arrays, rows_per_chunk]).encode()).hexdigest()


def _refuse_invalid(label: str, name: str, block: NDArray[Any], start: int) -> None:
    bad = invalid_rows(block.reshape(len(block), -1))
    if len(bad):
        shown = ", ".join(str(row + start) for row in bad[:5])
        raise InputError(
            f"{label}: {name} holds NaN or Inf in row {shown}"
            f"{', …' if len(bad) > 5 else ''}; mend or remove these rows in every modality"
        )


def _refuse_unwritable(label: str, name: str, block: NDArray[Any], start: int) -> None:
    """Refuse text that UTF-8 cannot hold: lone surrogates."""
    for row, text in enumerate(block.ravel()):
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{label}: {name} holds text that is not valid Unicode in row {row + start}"
            ) from None
