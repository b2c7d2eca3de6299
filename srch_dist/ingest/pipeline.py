"""Ingest: stream the arrays of a source into a feature store; an interrupted ingest resumes.

An ingest has three phases:

- `_initialise` creates the store, or resumes a store that the same ingest left unfinished.
- `_write_arrays` checks and writes blocks of rows. The store's journal records each block.
- `_finalise` commits the manifest. Before the commit, readers refuse the folder.

If a check refuses data in any phase, the ingest removes the store. An interrupted ingest keeps
the store; the same call resumes it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import ConfigError, InputError, StorageError
from srch_dist.ingest import limits
from srch_dist.ingest.checks import check_block, integral_split
from srch_dist.ingest.fingerprint import SourceFiles
from srch_dist.ingest.index_lists import IndexLists, hint_lists, index_split
from srch_dist.ingest.inference import read_first_rows
from srch_dist.ingest.pairing import Pairing, check_ids, explain_unequal
from srch_dist.ingest.profile import DataProfile, profile_table
from srch_dist.ingest.schema import (
    MAX_ATTRIBUTE_VALUES,
    PLAIN_KINDS,
    TEXT_KINDS,
    Schema,
    UnequalRowsError,
    choose_schema,
)
from srch_dist.ingest.sources.arrays import ArraySource
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.ingest.sources.formats import open_source
from srch_dist.ingest.stacking import stack_arrays
from srch_dist.ingest.transposing import transpose_arrays
from srch_dist.ingest.unreadable import refuse_unreadable
from srch_dist.runtime.progress import Progress, ProgressStage, silent
from srch_dist.runtime.temporary import temporary_folder
from srch_dist.storage.feature_store import CHUNK_BYTES, FeatureStore, FeatureWriter
from srch_dist.storage.locations import Location, local_path, locate
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import check_writable

# A file or folder, several files or folders, or arrays by name.
SourceLike = str | Path | Sequence[str | Path] | Mapping[str, Any]
# Maximum number of rows that an error message lists.
_LISTED = 5


# Seven parameters: callers of this public function pass the command's options one by one.
def ingest_source(
    source: SourceLike,
    store: str | Location,
    modalities: Sequence[str] | None = None,
    rows_per_chunk: int | None = None,
    progress: Progress | None = None,
    side: Sequence[str] | None = None,
    split_from: IndexLists | None = None,
) -> FeatureStore:
    """Stream paired features into a feature store, with bounded memory.

    Every row is checked before it is written. If a check fails, the incomplete store is removed.
    If the ingest is interrupted, the same call resumes after the last written block. Only an
    ingest of files into a local store can resume.

    Parameters
    ----------
    source : file or folder, several files or folders, or arrays by name.
    store : local folder or s3:// URL of the store to create.
    modalities : arrays to use as modalities, as ``array`` or ``name=array``; all 2-D floating-point
        arrays if None. ``name=a+b`` stacks the rows of two arrays; ``split`` is then 0 for rows of
        ``a`` and 1 for rows of ``b``. ``name=a.T`` transposes an array (d, n).
    rows_per_chunk : rows per chunk of every array. If None, a chunk of the widest array has about
        32 MiB.
    progress : display of the progress; silent if None.
    side : other arrays of n rows to store, in the form of ``modalities``. If None, all other arrays
        of n rows are stored, and small arrays of other lengths become attributes of the store.
    split_from : lists of row numbers, from which the array ``split`` is made.

    Raises
    ------
    InputError : the source is damaged, or its arrays cannot be paired features.
    StorageError : the store already exists, or cannot be written.
    """
    progress = progress or silent()
    if rows_per_chunk is not None and not 1 <= rows_per_chunk <= limits.MOST_ROWS:
        raise ConfigError(f"rows_per_chunk is {rows_per_chunk}, expected 1 to {limits.MOST_ROWS}")
    location = check_writable(locate(store))
    roles = modalities, side
    ingest = _prepare(source, location, roles, split_from, rows_per_chunk, progress)
    with hold_output(location) as check_lock, _hash_folder(location) as hash_folder:
        writer = _initialise(ingest, location)
        try:
            profiles = _write_arrays(ingest, writer, hash_folder, progress)
            progress.show(profile_table(ingest.schema.rows, profiles, ingest.schema.modalities))
            check_lock()
            if ingest.files is not None:
                ingest.files.check_unchanged()
            return _finalise(ingest, writer, hash_folder)
        except InputError:
            writer.discard()
            raise
        except BaseException:
            with suppress(StorageError):  # the first error is the one to report
                writer.settle()
            raise


@dataclass(frozen=True)
class _Ingest:
    """The plan of an ingest: the arrays to read and how to store them, fixed before a row is read.

    Attributes
    ----------
    source, label : the opened source, and its name in messages.
    schema : roles and store names of the source's arrays.
    specs : (shape, dtype) of every array of n rows by store name, modalities first.
    attributes : small arrays of other lengths, as JSON values by name.
    rows_per_chunk : rows per chunk of every array.
    files : files of the source; None for arrays in memory.
    fingerprint : SHA-256 that a resumed ingest must match. None for arrays in memory, because a
        later process cannot check that it gets the same arrays.
    """

    source: Source
    label: str
    schema: Schema
    specs: Specs
    attributes: Mapping[str, Any]
    rows_per_chunk: int
    files: SourceFiles | None
    fingerprint: str | None

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes, uncompressed."""
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.specs.values())


def _prepare(
    source: SourceLike,
    location: Location,
    roles: tuple[Sequence[str] | None, Sequence[str] | None],
    split_from: IndexLists | None,
    rows_per_chunk: int | None,
    progress: Progress,
) -> _Ingest:
    """Open the source, assign a role to each array, compare ids, and read the attributes.

    ``roles`` is (modalities, side), the options of `ingest_source`.
    """
    opened, label, paths = _open(source)
    files = None if paths is None else SourceFiles(paths, location)
    arrays, (modalities, side) = opened.specs(), roles
    if split_from is not None and paths is not None:
        matlab = all(path.suffix.lower() == ".mat" for path in paths)
        split_from = dataclasses.replace(split_from, matlab=matlab)
    try:
        refuse_unreadable(opened, modalities, side)
        opened = transpose_arrays(opened, modalities, side)
        opened, side = stack_arrays(opened, modalities, side)
        opened, side = index_split(opened, split_from, modalities, side)
        arrays = opened.specs()
        schema = choose_schema(
            arrays, modalities, side, lambda array: read_first_rows(opened, array)
        )
    except UnequalRowsError as error:
        explanation = explain_unequal(opened, arrays, error.arrays)
        raise InputError(
            f"{label}: {error}{explanation}{_joined(opened, error.arrays)}. "
            f"Give every modality the same rows in the same order.{error.hint}"
        ) from None
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    specs = {name: arrays[array] for name, array in schema.rowwise.items()}
    if "split" in specs and specs["split"][1].kind == "f":
        specs["split"] = specs["split"][0], np.dtype(np.int64)
    for name, (shape, dtype) in specs.items():
        limits.refuse_wide(label, name, shape, dtype.itemsize)
    pairing = check_ids(label, opened, arrays, schema)
    _show_schema(progress, opened, arrays, schema, pairing)
    attributes = _read_attributes(label, opened, arrays, schema)
    per_chunk = rows_per_chunk or _default_chunk(specs, schema.rows)
    layout: dict[str, Any] = {name: [schema.rowwise[name], *specs[name]] for name in specs}
    if split_from is not None:
        layout["--split-from"] = str(split_from)
    fingerprint = None if files is None else files.fingerprint(layout, per_chunk)
    return _Ingest(opened, label, schema, specs, attributes, per_chunk, files, fingerprint)


def _initialise(ingest: _Ingest, location: Location) -> FeatureWriter:
    """Create the store, or resume an interrupted ingest that has the same fingerprint."""
    # Checked before a writer exists: this refusal must not discard an interrupted ingest.
    limits.refuse_full_disk(location, ingest.nbytes)
    modalities = tuple(ingest.schema.modalities)
    return FeatureWriter(
        location, ingest.specs, modalities, ingest.rows_per_chunk, ingest.fingerprint
    )


def _write_arrays(
    ingest: _Ingest, writer: FeatureWriter, hash_folder: Path, progress: Progress
) -> dict[str, DataProfile]:
    """Write each array from its first missing row on; return the profile of each modality."""
    profiles: dict[str, DataProfile] = {}
    chunks = -(-ingest.schema.rows // writer.rows_per_chunk)
    with progress.stage("ingest", len(ingest.specs) * chunks) as stage:
        for name, (shape, dtype) in ingest.specs.items():
            written = writer.written.get(name, 0)
            if written:
                progress.note(f"ingest {name}: resuming from row {written}")
                stage.advance(-(-written // writer.rows_per_chunk))
            if name in ingest.schema.modalities:
                state = writer.state.get(name, {"dims": shape[1], "dtype": str(dtype)})
                profiles[name] = DataProfile(**state)
            profile, hashes = profiles.get(name), _hash_file(hash_folder, name)
            _write_array(ingest, writer, name, profile, hashes, stage)
            if profile is not None:
                profile.finish(hashes)
    return profiles


def _write_array(
    ingest: _Ingest,
    writer: FeatureWriter,
    name: str,
    profile: DataProfile | None,
    hashes: Path,
    stage: ProgressStage,
) -> None:
    """Check and write the rows of one array, from the first row that the store lacks.

    For a modality, also update its ``profile`` and append its row hashes to the file ``hashes``.
    """
    written = writer.written.get(name, 0)
    array = ingest.schema.rowwise[name]
    for block in ingest.source.blocks(array, writer.rows_per_chunk, written):
        if block.dtype.kind == "U":  # NumPy converts only native byte order to StringDType
            block = block.astype(block.dtype.newbyteorder("="), copy=False)
        check_block(ingest.label, name, block, written, profile is not None)
        if name == "split" and block.dtype.kind == "f":
            block = integral_split(ingest.label, block, written)
        if profile is not None:
            profile.add(block, written, hashes)
            writer.state[name] = profile.state()
        writer.write(name, written, block)
        written += len(block)
        stage.advance()
    if written != ingest.schema.rows:
        raise InputError(
            f"{ingest.label}: {name} is truncated: read {written} of {ingest.schema.rows} rows"
        )


def _finalise(ingest: _Ingest, writer: FeatureWriter, hash_folder: Path) -> FeatureStore:
    """Commit the store, then delete the row hashes; a resume before the commit needs the hashes."""
    hashes = [_hash_file(hash_folder, name) for name in ingest.schema.modalities]
    return writer.finish(ingest.attributes, hashes)


def _joined(source: Source, arrays: Sequence[str]) -> str:
    """List, for an error message, the files of each array that is stored in several files."""
    return "".join(
        f"; {name} joins {', '.join(files[:_LISTED])}{', …' if len(files) > _LISTED else ''}"
        for name in arrays
        if (files := source.joined.get(name, ()))
    )


def _open(source: SourceLike) -> tuple[Source, str, list[Path] | None]:
    """Open a source; return the source, a name for messages, and paths or, for arrays, None."""
    if isinstance(source, Mapping):
        return ArraySource(source), "the arrays", None
    given = [source] if isinstance(source, str | Path) else source
    paths = [Path(path) for path in given]
    for path in given:
        local_path(path)  # refuses URLs: sources are read from local disks only
    return open_source(paths), ", ".join(str(path) for path in paths), paths


@contextmanager
def _hash_folder(location: Location) -> Iterator[Path]:
    """Yield the folder for files of row hashes: the local store or, for S3, a temporary folder."""
    if isinstance(location, Path):
        yield location
        return
    with temporary_folder() as folder:
        yield Path(folder)


def _hash_file(folder: Path, name: str) -> Path:
    return folder / f".hashes-{name}"


def _show_schema(
    progress: Progress, source: Source, arrays: Specs, schema: Schema, pairing: Pairing
) -> None:
    """Display each array's role, the reason for each skipped array, and how rows are paired."""
    for name, array in schema.modalities.items():
        (rows, dims), dtype = arrays[array]
        progress.note(f"modality {name}: array={array} rows={rows} dims={dims} dtype={dtype}")
    for name, array in schema.side.items():
        dtype = arrays[array][1]
        kind = "text" if dtype.kind in TEXT_KINDS else str(dtype)
        progress.note(f"side {name}: array={array} dtype={kind}")
    for name, reason in source.skipped.items():
        progress.note(f"skipped {name}: {reason}")
    for name, reason in {**source.unreadable, **schema.left_out}.items():
        progress.note(f"left out {name}: {reason}")
    hint = _list_hint(arrays, schema).strip()
    for warning in [*schema.warnings, *([hint] if hint else [])]:
        progress.note(f"warning: {warning}")
    for reason in pairing.warnings:
        progress.note(
            f"warning: pairing: ids cannot be compared: {reason}; rows are paired by position"
        )
    ids = ", ".join(pairing.compared)
    paired = f"by position; the arrays {ids} agree" if len(pairing.compared) > 1 else "by position"
    progress.note(f"pairing: {paired}. Choose other arrays with --modalities and --side.")


def _list_hint(arrays: Specs, schema: Schema) -> str:
    """Suggest --split-from if arrays look like lists of row numbers; "" otherwise."""
    others = {*schema.attributes.values(), *schema.left_out}
    hint = hint_lists({name: arrays[name] for name in arrays if name in others}, schema.rows)
    return f" {hint}" if hint and "split" not in schema.side else ""


def _read_attributes(label: str, source: Source, arrays: Specs, schema: Schema) -> dict[str, Any]:
    """Read the small arrays that do not have one row per pair; return JSON values by name."""
    values: dict[str, Any] = {}
    for name, array in schema.attributes.items():
        shape, dtype = arrays[array]
        size = int(np.prod(shape))
        if size > MAX_ATTRIBUTE_VALUES or dtype.kind not in PLAIN_KINDS:
            raise InputError(
                f"{label}: {name} has shape {shape} of {dtype}, expected {schema.rows} rows or a "
                f"small attribute (at most {MAX_ATTRIBUTE_VALUES} numbers or texts). Remove {name} "
                "from the source, or name the arrays to store with --side."
                f"{_list_hint(arrays, schema)}"
            )
        blocks = list(source.blocks(array, max(1, size)))
        content = np.concatenate(blocks) if blocks and shape else np.array(blocks).reshape(shape)
        values[name] = content.tolist()
    return values


def _default_chunk(specs: Specs, rows: int) -> int:
    """Compute the rows per chunk for which a chunk of the widest array has about 32 MiB."""
    widest = max(1, *(math.prod(shape[1:]) * dtype.itemsize for shape, dtype in specs.values()))
    return max(1, min(rows, CHUNK_BYTES // widest))
