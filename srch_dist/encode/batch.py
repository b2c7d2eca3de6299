"""Codes of rows that were not trained on: sign of a projection of the normalised features."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import InputError, StorageError
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location, check_access, locate, move
from srch_dist.storage.locks.object_lock import hold_place
from srch_dist.storage.run.open import open_run

_TASK_BYTES = 32 << 20


def encode_store(
    model: str | Location,
    data: str | Location,
    modality: str,
    out: str | Location,
    progress: Progress | None = None,
) -> Location:
    """Encode every row of a store, in its order, to a Zarr array (n, l / 8) at ``out``.

    Nothing is left at ``out`` unless all rows were encoded.
    """
    progress = progress or silent()
    store = open_store(data)
    source = open_run(model).path
    loaded = load_model(source)
    check_modalities(loaded, store, [modality])
    target = locate(out)
    check_access(target, write=True)
    if target.exists():
        raise StorageError(f"{target} is already there; remove it or name another output")
    with hold_place(target) as check:
        partial = target.parent / f".{target.name}.partial"
        arrays.remove(partial)
        try:
            _write_codes(loaded, source, store, modality, partial, progress)
            check()
            move(partial, target)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error}") from None
        finally:
            with suppress(StorageError):  # of a server that is away; the first error is the one
                arrays.remove(partial)
    return target


def _write_codes(
    model: Model,
    source: Location,
    store: FeatureStore,
    modality: str,
    path: Location,
    progress: Progress,
) -> None:
    rows = encoding_rows(store)
    attributes = {"modality": modality, "bits": model.bits, "bitorder": "little"}
    arrays.create_array(path, (store.rows, model.bits // 8), rows, np.uint8, attributes)
    shared = tasks.task(load_model, source)
    work = [
        tasks.task(_encode_span, shared, store, modality, start, start + rows, path)
        for start in range(0, store.rows, rows)
    ]
    with progress.stage(f"encode {modality}", len(work)) as stage:
        tasks.run_all(work, stage)


def encoding_rows(store: FeatureStore) -> int:
    """Rows encoded by one task: whole chunks of the store, about 32 MiB in float64."""
    fit = _TASK_BYTES // (8 * max(store.modalities.values()))
    return max(1, fit // store.rows_per_chunk) * store.rows_per_chunk


def check_modalities(model: Model, store: FeatureStore, names: list[str]) -> None:
    """Refuse a store that the model cannot encode, before any work."""
    for name in names:
        if name not in model.means or name not in store.modalities:
            raise InputError(
                f"there is no modality {name!r} in both the model ({', '.join(model.means)}) "
                f"and {store.path} ({', '.join(store.modalities)})"
            )
        if store.modalities[name] != len(model.means[name]):
            raise InputError(
                f"{name} has {store.modalities[name]} dimensions in {store.path}, "
                f"the model was trained on {len(model.means[name])}"
            )


def _encode_span(
    model: Model, store: FeatureStore, modality: str, start: int, stop: int, path: Location
) -> None:
    codes = encode_rows(model, modality, store.read(modality, start, min(stop, store.rows)))
    arrays.write_rows(path, start, codes)
