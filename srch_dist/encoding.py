"""Codes of rows that were not trained on: sign of a projection of the normalised features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.errors import InputError, StorageError
from srch_dist.kernels.anchors import TILE, similarities
from srch_dist.kernels.bits import Packed, pack_codes, sign_codes
from srch_dist.kernels.features import invalid_rows, normalise
from srch_dist.progress import Progress, silent
from srch_dist.storage import arrays
from srch_dist.storage.features import FeatureStore, open_store
from srch_dist.storage.model import Model, load_model
from srch_dist.storage.run import open_run

_TASK_BYTES = 32 << 20


def score_rows(model: Model, modality: str, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Real-valued bits (n, l) of features (n, d_g) as they come from a store.

    Raises
    ------
    InputError : a modality the model does not know, another width, NaN or Inf.
    """
    mean = model.means.get(modality)
    if mean is None:
        known = ", ".join(model.means)
        raise InputError(f"the model has no modality {modality!r}; it has {known}")
    if rows.ndim != 2 or rows.shape[1] != len(mean):
        raise InputError(
            f"{modality} has shape {rows.shape}, the model was trained on (n, {len(mean)})"
        )
    bad = invalid_rows(rows)
    if len(bad):
        raise InputError(f"{modality} holds NaN or Inf in row {bad[0]} of those to encode")
    kind = np.dtype(np.float64)
    features, _ = normalise(rows, mean, model.center, model.unit_norm, kind)
    return score_features(model, modality, features)


def score_features(model: Model, modality: str, features: NDArray[Any]) -> NDArray[Any]:
    """Real-valued bits (n, l) of normalised features (n, d_g), in their precision."""
    tiles = range(0, max(1, len(features)), TILE)
    return np.concatenate(
        [score_tile(model, modality, features[start : start + TILE])[0] for start in tiles]
    )


def score_tile(
    model: Model, modality: str, features: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """`score_features` of at most `TILE` rows, and their similarities to the anchors, if any."""
    kind = features.dtype
    scores: NDArray[Any] = features @ model.encoders[modality].T.astype(kind)
    anchors = model.anchors.get(modality)
    if anchors is None:
        return scores, None
    near = similarities(features, anchors.rows.astype(kind), anchors.bandwidth)
    scores += near @ anchors.encoder.T.astype(kind)
    scores += anchors.offset.astype(kind)
    return scores, near


def encode_rows(model: Model, modality: str, rows: NDArray[Any]) -> Packed:
    """Packed codes (n, l / 8), uint8 in little bit order, of features (n, d_g)."""
    return pack_codes(sign_codes(score_rows(model, modality, rows)))


def encode_store(
    model: str | Path,
    data: str | Path,
    modality: str,
    out: str | Path,
    progress: Progress | None = None,
) -> Path:
    """Encode every row of a store, in its order, to a Zarr array (n, l / 8) at ``out``.

    Nothing is left at ``out`` unless all rows were encoded.
    """
    progress = progress or silent()
    store = open_store(data)
    source = open_run(model).path
    loaded = load_model(source)
    check_modalities(loaded, store, [modality])
    target = arrays.local_path(out)
    if target.exists():
        raise StorageError(f"{target} is already there; remove it or name another output")
    partial = target.with_name(f".{target.name}.partial")
    arrays.remove(partial)
    rows = encoding_rows(store)
    attributes = {"modality": modality, "bits": loaded.bits, "bitorder": "little"}
    try:
        arrays.create_array(partial, (store.rows, loaded.bits // 8), rows, np.uint8, attributes)
        shared = execution.task(load_model, source)
        tasks = [
            execution.task(_encode_span, shared, store, modality, start, start + rows, partial)
            for start in range(0, store.rows, rows)
        ]
        with progress.stage(f"encode {modality}", len(tasks)) as stage:
            execution.run_all(tasks, stage)
        partial.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from None
    finally:
        arrays.remove(partial)
    return target


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
    model: Model, store: FeatureStore, modality: str, start: int, stop: int, path: Path
) -> None:
    codes = encode_rows(model, modality, store.read(modality, start, min(stop, store.rows)))
    arrays.write_rows(path, start, codes)
