"""Random models, and codes computed from a model file with NumPy only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from srch_dist.encode.model import Anchors, Model


def numpy_bits(model_file: Path, modality: str, rows: np.ndarray) -> np.ndarray:
    """Bits (n, l), True where a score is at least 0, computed from the model file only."""
    with np.load(model_file, allow_pickle=False) as file:
        members = dict(file)
    mean, encoder = members[f"mean/{modality}"], members[f"encoder/{modality}"]
    header = json.loads(str(members["header"]))
    x = rows.astype(np.float64)
    if header["center"]:
        x = x - mean
    if header["unit_norm"]:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = x @ encoder.T
    if modality in header["anchors"]:
        rows, weights, offset, width = (
            members[f"anchors/{modality}/{name}"]
            for name in ("rows", "encoder", "offset", "bandwidth")
        )
        squared = ((x[:, None] - rows[None]) ** 2).sum(axis=2)
        scores += np.exp(-squared / width) @ weights.T + offset
    return scores >= 0


def make_model(dims: int, bits: int, anchors: int) -> Model:
    rng = np.random.default_rng(0)
    near = Anchors(
        rng.normal(size=(anchors, dims)) / np.sqrt(dims),
        rng.normal(size=(bits, anchors)),
        rng.normal(size=bits),
        1.3,
    )
    matrix = {"text": rng.normal(size=(bits, dims))}
    return Model(
        {"text": rng.normal(size=dims)}, matrix, matrix, {"text": near}, bits, True, True, {}
    )
