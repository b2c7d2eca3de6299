"""Codes of features from a model alone: NumPy is all that is needed, no cluster and no store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import Model
from srch_dist.errors import InputError
from srch_dist.kernels.features import invalid_rows, normalise
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.rbf import TILE, similarities
from srch_dist.kernels.types import Packed


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
    scores: NDArray[Any] = features @ model.encoders[modality].T.astype(kind, copy=False)
    anchors = model.anchors.get(modality)
    if anchors is None:
        return scores, None
    near = similarities(features, anchors.rows.astype(kind, copy=False), anchors.bandwidth)
    scores += near @ anchors.encoder.T.astype(kind, copy=False)
    scores += anchors.offset.astype(kind, copy=False)
    return scores, near


def encode_rows(model: Model, modality: str, rows: NDArray[Any]) -> Packed:
    """Packed codes (n, l / 8), uint8 in little bit order, of features (n, d_g)."""
    return pack_codes(sign_codes(score_rows(model, modality, rows)))


class QueryEncoder:
    """Encodes single queries of one modality; what does not depend on the query is kept.

    ``QueryEncoder(load_model("runs/first"), "text")(row)`` is the code (l / 8,) of ``row`` (d_g,),
    the one that `encode_rows` gives but for bits whose score is within rounding of 0.
    """

    def __init__(self, model: Model, modality: str) -> None:
        if modality not in model.means:
            known = ", ".join(model.means)
            raise InputError(f"the model has no modality {modality!r}; it has {known}")
        self._model, self._modality = model, modality
        anchors = model.anchors.get(modality)
        self._anchors = anchors
        if anchors is not None:
            self._lengths = np.einsum("ij,ij->i", anchors.rows, anchors.rows)

    def scores(self, row: NDArray[Any]) -> NDArray[np.float64]:
        """Real-valued bits (l,) of features (d_g,); raises InputError as `score_rows` does."""
        model, mean = self._model, self._model.means[self._modality]
        values = np.asarray(row)
        if values.shape != mean.shape or not np.isfinite(values).all():
            raise InputError(
                f"a query of {self._modality} is ({len(mean)},) finite numbers, not {values.shape} "
                f"of {values.dtype}"
            )
        kind = np.dtype(np.float64)
        features, _ = normalise(values[None], mean, model.center, model.unit_norm, kind)
        x = features[0]
        scores: NDArray[np.float64] = model.encoders[self._modality] @ x
        if self._anchors is not None:
            squared = np.maximum(self._lengths + x @ x - 2.0 * (self._anchors.rows @ x), 0.0)
            near = np.exp(squared / -self._anchors.bandwidth)
            scores += self._anchors.encoder @ near + self._anchors.offset
        return scores

    def __call__(self, row: NDArray[Any]) -> Packed:
        """Packed code (l / 8,), uint8 in little bit order, of features (d_g,)."""
        code: Packed = pack_codes(sign_codes(self.scores(row))[None])[0]
        return code
