"""Encode features with a model in this process; imports NumPy alone, without Dask or Zarr."""

from __future__ import annotations

import warnings

import numpy as np

from srch_dist.config.nearest import did_you_mean
from srch_dist.encode.input_profile import InputProfile, profile_rows
from srch_dist.encode.model import Model
from srch_dist.errors import InputError
from srch_dist.kernels.features import INVALID_VALUES, invalid_rows, normalise
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.rbf import TILE, similarities
from srch_dist.kernels.types import Array, Matrix, Packed, Vector
from srch_dist.storage.in_memory import as_array


def score_rows(model: Model, modality: str, rows: Array) -> Matrix:
    """Compute scores (n, l) float64 of raw features (n, d_g); their signs are the codes.

    Raises
    ------
    InputError : the modality is unknown, the shape is not (n, d_g), or a row holds NaN or Inf.
    """
    check_modality(model, modality)
    mean = model.means[modality]
    rows = np.asarray(as_array(modality, rows))
    if rows.ndim != 2 or rows.shape[1] != len(mean):
        raise InputError(
            f"{modality} has shape {rows.shape}, expected (n, {len(mean)}) as in training"
            f"{modality_of_width(model, rows.shape[1:])}"
        )
    invalid = invalid_rows(rows)
    if len(invalid):
        raise InputError(
            f"{modality} holds {INVALID_VALUES} in row {invalid[0]} of the rows to encode"
        )
    features, _ = normalise(rows, mean, model.center, model.unit_norm, np.dtype(np.float64))
    return score_features(model, modality, features)


def check_modality(model: Model, modality: str) -> None:
    """Raise InputError if the model does not have the modality."""
    if modality not in model.means:
        raise InputError(
            f"the model has no modality {modality!r}; it has {', '.join(model.means)}"
            f"{did_you_mean(modality, model.means)}"
        )


def modality_of_width(model: Model, shape: tuple[int, ...]) -> str:
    """Return a clause that names the modality whose rows have ``shape``; "" if there is none."""
    fits = [name for name, mean in model.means.items() if mean.shape == shape]
    return f"; did you mean the modality {fits[0]}?" if fits else ""


def score_features(model: Model, modality: str, features: Array) -> Array:
    """Compute scores (n, l) of normalised features (n, d_g), in the dtype of the features."""
    tiles = range(0, max(1, len(features)), TILE)
    return np.concatenate(
        [score_tile(model, modality, features[start : start + TILE])[0] for start in tiles]
    )


def score_tile(model: Model, modality: str, features: Array) -> tuple[Array, Array | None]:
    """Compute scores (n, l) of n ≤ `TILE` rows, and similarities (n, m) to the m anchors.

    The similarities are None if the modality has no anchors.
    """
    dtype = features.dtype
    scores: Array = features @ model.encoders[modality].T.astype(dtype, copy=False)
    anchors = model.anchors.get(modality)
    if anchors is None:
        return scores, None
    near = similarities(features, anchors.rows.astype(dtype, copy=False), anchors.bandwidth)
    scores += near @ anchors.encoder.T.astype(dtype, copy=False)
    scores += anchors.offset.astype(dtype, copy=False)
    return scores, near


def encode_rows(model: Model, modality: str, rows: Array) -> Packed:
    """Encode raw features (n, d_g) to packed codes (n, l / 8), uint8 in little bit order."""
    return pack_codes(sign_codes(score_rows(model, modality, rows)))


class QueryEncoder:
    """Fast encoder for single queries of one modality.

    ``QueryEncoder(load_model("runs/first"), "text")(row)`` is the code (l / 8,) of ``row`` (d_g,).
    `encode_rows` gives the same code, except for bits whose score is zero within rounding.

    It warns (`UserWarning`) once of a row of zeros, and if several rows lie nearer to the training
    mean of another modality of the same width.
    """

    def __init__(self, model: Model, modality: str) -> None:
        check_modality(model, modality)
        self._model, self._modality = model, modality
        anchors = model.anchors.get(modality)
        self._anchors = anchors
        self._profile, self._warned = InputProfile(), False
        if anchors is not None:
            self._squared_norms = np.einsum("ij,ij->i", anchors.rows, anchors.rows)

    def scores(self, row: Array) -> Vector:
        """Compute scores (l,) float64 of raw features (d_g,); raise errors as `score_rows` does."""
        model, mean = self._model, self._model.means[self._modality]
        values = np.asarray(as_array(self._modality, row))
        if values.shape != mean.shape or len(invalid_rows(values[None])):
            raise InputError(
                f"a query of {self._modality} must be ({len(mean)},) finite numbers; this query "
                f"has shape {values.shape} of {values.dtype}, or {INVALID_VALUES}"
                f"{modality_of_width(model, values.shape)}"
            )
        self._warn_once(values)
        dtype = np.dtype(np.float64)
        features, _ = normalise(values[None], mean, model.center, model.unit_norm, dtype)
        x = features[0]
        scores: Vector = model.encoders[self._modality] @ x
        if self._anchors is not None:
            squared = np.maximum(self._squared_norms + x @ x - 2.0 * (self._anchors.rows @ x), 0.0)
            near = np.exp(squared / -self._anchors.bandwidth)
            scores += self._anchors.encoder @ near + self._anchors.offset
        return scores

    def _warn_once(self, row: Array) -> None:
        """Warn of the first row of zeros, or once the rows seem to be of another modality."""
        if self._warned:
            return
        self._profile.add(profile_rows(self._model, self._modality, row[None], self._profile.rows))
        for text in self._profile.warnings(self._modality):
            warnings.warn(text, stacklevel=3)
            self._warned = True

    def __repr__(self) -> str:
        dims = len(self._model.means[self._modality])
        return f"QueryEncoder({self._modality!r}, {dims} dimensions, {self._model.bits} bits)"

    def __call__(self, row: Array) -> Packed:
        """Encode raw features (d_g,) to a packed code (l / 8,), uint8 in little bit order."""
        code: Packed = pack_codes(sign_codes(self.scores(row))[None])[0]
        return code


# Pickles store this public name, so a pickle can be loaded after the module moves.
QueryEncoder.__module__ = "srch_dist"
