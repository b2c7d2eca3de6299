"""Small paired data with known structure, and random orthonormal matrices."""

from __future__ import annotations

import numpy as np

from pipelines.compare.baselines.linear_algebra import unit_rows
from pipelines.compare.baselines.protocol import FloatArray


def clustered_pair(
    n: int, dims: tuple[int, int], classes: int, noise: float, seed: int
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Two views (n, d_g) of class centres plus noise, centred, unit-norm, and labels (n, c)."""
    rng = np.random.default_rng(seed)
    owner = np.arange(n) % classes
    features = {}
    for name, d in zip(("image", "text"), dims, strict=True):
        X = rng.standard_normal((classes, d))[owner] + noise * rng.standard_normal((n, d))
        features[name] = unit_rows(X - X.mean(axis=0))
    return features, np.eye(classes)[owner]


def aligned_pair(
    n: int, d: int, classes: int, noise: float, seed: int
) -> tuple[dict[str, FloatArray], FloatArray]:
    """As `clustered_pair`, with the same centres in both views: vectors of one common space."""
    rng = np.random.default_rng(seed)
    owner = np.arange(n) % classes
    centres = rng.standard_normal((classes, d))[owner]
    features = {}
    for name in ("image", "text"):
        X = centres + noise * rng.standard_normal((n, d))
        features[name] = unit_rows(X - X.mean(axis=0))
    return features, np.eye(classes)[owner]


def latent_pair(n: int, dims: tuple[int, int], latent: int, seed: int) -> dict[str, FloatArray]:
    """Two centred views (n, d_g) of shared latent factors with decreasing strength, plus noise."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, latent)) / np.sqrt(np.arange(1, latent + 1))
    views = {}
    for name, d in zip(("image", "text"), dims, strict=True):
        X = shared @ rng.standard_normal((latent, d)) + 0.5 * rng.standard_normal((n, d))
        views[name] = X - X.mean(axis=0)
    return views


def random_orthonormal(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Random orthonormal columns, or rows if those are fewer, by QR; srch_dist uses an SVD."""
    if rows >= columns:
        return np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    return np.linalg.qr(rng.standard_normal((columns, rows)))[0].T
