"""Record with which model and from which features codes were made; check both before use."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from srch_dist.encode.model import Model
from srch_dist.errors import InputError
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.joined_stores import Columns, JoinedStores


def code_attributes(model: Model, modality: str, features: int | None) -> dict[str, Any]:
    """Return the attributes of an array of codes, which `open_codes` reads.

    ``features`` is the checksum of the encoded features, as a feature store records it.
    """
    return {
        "modality": modality,
        "bits": model.bits,
        "bitorder": "little",
        "model": model_identity(model),
        "features": features,
    }


def model_identity(model: Model) -> str:
    """Compute a SHA-256 (hex) of everything that determines the codes of a model."""
    digest = hashlib.sha256(repr((model.bits, model.center, model.unit_norm)).encode())
    for g in sorted(model.means):
        arrays = [model.means[g], model.encoders[g]]
        if (anchors := model.anchors.get(g)) is not None:
            arrays += [anchors.rows, anchors.encoder, anchors.offset, np.array(anchors.bandwidth)]
        for array in arrays:
            digest.update(repr((g, array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_model(codes: CodeStore, model: Model, source: str) -> None:
    """Check that ``model``, read from ``source``, made the codes.

    For codes that do not record their model, such as a .npy file, only the number of bits is
    compared.

    Raises
    ------
    InputError : another model made the codes.
    """
    if codes.bits != model.bits:
        raise InputError(
            f"{codes.path} holds codes of {codes.bits} bits, expected {model.bits} as in the "
            "model. Give the model that made the codes."
        )
    if codes.model is not None and codes.model != model_identity(model):
        raise InputError(
            f"{codes.path} was encoded with another model than {source}; distances between codes "
            "of two models mean nothing. Give the model that made the codes, or encode again."
        )


def check_store(codes: CodeStore, store: Columns) -> None:
    """Check that the codes were made from the rows of ``store``.

    For codes that do not record their features, only the number of rows is compared.

    Raises
    ------
    InputError : the codes were made from another store.
    """
    if store.rows != codes.rows:
        raise InputError(
            f"{store.path} has {store.rows} rows, but {codes.path} has {codes.rows}. Give the "
            "store that was encoded."
        )
    if isinstance(store, JoinedStores):
        _check_parts(codes, store)
        return
    if codes.parts:  # one store of all rows has another checksum than each part
        return
    known = None if codes.modality is None else store.checksums.get(codes.modality)
    if None not in (codes.features, known) and codes.features != known:
        raise InputError(
            f"{codes.path} was not encoded from {store.path}: the features {codes.modality!r} "
            "differ. Give the store that was encoded, or encode again."
        )


def _check_parts(codes: CodeStore, joined: JoinedStores) -> None:
    """Check that each store of ``joined`` has the rows of one part of the codes, in order."""
    parts = codes.parts or ((codes.rows, codes.features),)
    for (rows, features), store in zip(parts, joined.stores, strict=False):
        known = None if codes.modality is None else store.checksums.get(codes.modality)
        if rows != store.rows or (None not in (features, known) and features != known):
            raise InputError(
                f"{store.path} does not have the rows of its part of {codes.path}. Give the stores "
                "in the order in which they were encoded and appended."
            )
    if len(parts) != len(joined.stores):
        raise InputError(
            f"{codes.path} has {len(parts)} parts, but {len(joined.stores)} stores are given"
        )
