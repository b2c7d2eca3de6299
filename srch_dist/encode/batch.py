"""Encode every row of a feature store on Dask, or of a file in this process."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from srch_dist.config.nearest import did_you_mean
from srch_dist.encode.input_profile import InputProfile, profile_rows
from srch_dist.encode.inputs import FileInput, open_input
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.provenance import code_attributes
from srch_dist.encode.row_ids import read_ids, write_ids
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import InputError, StorageError
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import partial_name
from srch_dist.storage.durable import flush
from srch_dist.storage.failures import storage_error
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import Location, locate, move
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import check_new
from srch_dist.storage.recorded_runs import record_checksums
from srch_dist.storage.run.open import open_run

# Bytes of one task's features in float64, for the modality with most dimensions.
_TASK_BYTES = 32 << 20


def encode_store(
    model: str | Location,
    data: str | Location,
    modality: str,
    out: str | Location,
    progress: Progress | None = None,
    array: str | None = None,
) -> Location:
    """Encode all rows of one modality, in order.

    A feature store is encoded by Dask tasks. Another file or folder is streamed in this process.
    ``out`` appears after all rows are encoded.

    Parameters
    ----------
    model : run directory of a finished run.
    data : feature store, or a file or folder with the rows of one modality that ingest can read.
    modality : name of the modality.
    out : Zarr array to create, (n, l / 8) uint8 in little bit order.
    progress : display of the progress; None shows nothing.
    array : array or column of a file or folder. By default it has the modality's name, or is the
        only one of the right width.

    Returns
    -------
    Location of the codes.

    Raises
    ------
    InputError : the model or the data lack the modality, or their dimensions differ.
    StorageError : ``out`` already exists or cannot be written, or the run or the store cannot be
        read.
    """
    progress = progress or silent()
    source = open_run(model).path
    loaded = load_model(source)
    rows = open_rows(data, loaded, modality, array)
    target = check_new(locate(out))
    with hold_output(target) as check_lock:
        check_new(target)  # again, now that no other process can create the array
        partial = partial_name(target)
        arrays.remove(partial)
        try:
            _write_codes(loaded, source, rows, modality, partial, progress)
            check_lock()
            flush(partial)
            move(partial, target)
            flush(target.parent)
        except OSError as error:
            raise storage_error("write", target, error) from None
        finally:
            with suppress(StorageError):  # if the server is unreachable, report the first error
                arrays.remove(partial)
    return target


def open_rows(
    data: str | Location, model: Model, modality: str, array: str | None = None
) -> FeatureStore | FileInput:
    """Open the rows to encode as `open_input` does, and check a store against the model."""
    rows = open_input(data, model, modality, array)
    if isinstance(rows, FeatureStore):
        check_modalities(model, rows, [modality])
    return rows


def _write_codes(
    model: Model,
    source: Location,
    rows: FeatureStore | FileInput,
    modality: str,
    path: Location,
    progress: Progress,
) -> None:
    profile = InputProfile()
    if isinstance(rows, FeatureStore):
        step, features = encoding_rows(rows), rows.checksums.get(modality)
    else:
        step, features = _block_rows(rows), None
    attributes = code_attributes(model, modality, features)
    arrays.create_array(path, (rows.rows, model.bits // 8), step, np.uint8, attributes)
    if isinstance(rows, FeatureStore):
        shared_model = tasks.task(load_model, source)
        work = [
            tasks.task(_encode_span, shared_model, rows, modality, start, start + step, path)
            for start in range(0, rows.rows, step)
        ]
        with progress.stage(f"encode {modality}", len(work)) as stage:
            spans = tasks.run_all(work, stage)
        checksums = [checksum for checksum, _ in spans]
        for _, part in spans:
            profile.add(part)
    else:
        checksums, features = [], 0
        with progress.stage(f"encode {modality}", -(-rows.rows // step)) as stage:
            for start, block in rows.blocks(step):
                checksums.append(
                    arrays.write_rows(path, start, encode_rows(model, modality, block))
                )
                features = arrays.checksum(block, features)
                profile.add(profile_rows(model, modality, block, start))
                stage.advance()
        arrays.update_attributes(path, {"features": features})
    for text in profile.warnings(modality):
        progress.warn(text)
    if (ids := read_ids(rows)) is not None:
        write_ids(path, ids, step)
    record_checksums(path, step, checksums)


def _block_rows(rows: FileInput) -> int:
    """Choose the rows per block of a file, about 32 MiB in float64."""
    return max(1, min(rows.rows, _TASK_BYTES // (8 * rows.width)))


def encoding_rows(store: FeatureStore) -> int:
    """Choose the number of rows per task: whole chunks of the store, about 32 MiB in float64."""
    rows = _TASK_BYTES // (8 * max(store.modalities.values()))
    return max(1, rows // store.rows_per_chunk) * store.rows_per_chunk


def check_modalities(model: Model, store: FeatureStore, names: list[str]) -> None:
    """Raise InputError unless the model can encode the modalities ``names`` of the store."""
    for name in names:
        if name not in model.means or name not in store.modalities:
            raise InputError(
                f"modality {name!r} must be in the model and in the store; the model has "
                f"{', '.join(model.means)}, and {store.path} has {', '.join(store.modalities)}"
                f"{did_you_mean(name, set(model.means) & set(store.modalities))}"
            )
        if store.modalities[name] != len(model.means[name]):
            raise InputError(
                f"{name} has {store.modalities[name]} dimensions in {store.path}, but the model "
                f"was trained on {len(model.means[name])} dimensions"
            )


def _encode_span(
    model: Model, store: FeatureStore, modality: str, start: int, stop: int, path: Location
) -> tuple[int, InputProfile]:
    """Encode and write a range of rows; return the checksum of its codes, and its profile."""
    features = store.read(modality, start, min(stop, store.rows))
    checksum = arrays.write_rows(path, start, encode_rows(model, modality, features))
    return checksum, profile_rows(model, modality, features, start)
