"""Semantic correlation maximisation (SCM). SUPERVISED: it uses the training labels.

D. Zhang and W.-J. Li, "Large-scale supervised multimodal hashing with semantic correlation
maximization", AAAI 2014.

The codes should reproduce the similarities S = 2 L̃ L̃ᵀ - 1 1ᵀ (n, n), with L̃ the label rows of
unit length: minimise ‖sign(X W_X) sign(Y W_Y)ᵀ - l S‖². S is never formed, since XᵀSY = 2
(XᵀL̃)(YᵀL̃)ᵀ - (Xᵀ1)(Yᵀ1)ᵀ.

- ``orthogonal`` (SCM-orth): relaxed signs with W_gᵀX_gᵀX_gW_g = n I. The solution is the leading
  singular pairs of XᵀSY in whitened features, a CCA of the semantic correlation.
- otherwise (SCM-seq): one bit at a time. Each is the leading pair of Xᵀ R_t Y, with the residual
  R_{t+1} = R_t - sign(Xw_x) sign(Yw_y)ᵀ, R_1 = l S.

SCM-seq has no limit of bits. SCM-orth has min(d_g) directions; for more bits a random frame spreads
them over the code. XᵀSY has rank c + 1, so its later directions carry no information.

Differences: a ridge is added to X_gᵀX_g (the paper adds a small constant), and a sequential bit is
the plain leading pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import svds

from .linear_algebra import random_frame, regularised_gram, unit_rows
from .protocol import Features, FloatArray, LinearCodes, linear_codes_from, signs, two_modalities

Pair = tuple[FloatArray, FloatArray]


def semantic_covariance(X: FloatArray, Y: FloatArray, labels: FloatArray) -> FloatArray:
    """XᵀSY (d_X, d_Y) for features (n, d_g) and multi-hot labels (n, c)."""
    unit = unit_rows(labels.astype(np.float64))
    pairs = 2 * (X.T @ unit) @ (Y.T @ unit).T
    return np.asarray(pairs - np.outer(X.sum(axis=0), Y.sum(axis=0)))


def whitened(
    features: Features, ridge: float
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Whitened features (n, d_g), with regularised scatter n I, and their maps (d_g, d_g)."""
    maps = {}
    for g, X in features.items():
        factor = linalg.cholesky(regularised_gram(X, ridge), lower=True)
        maps[g] = np.sqrt(X.shape[0]) * linalg.inv(factor).T
    return {g: features[g] @ T for g, T in maps.items()}, maps


def orthogonal_pairs(covariance: FloatArray, bits: int, seed: int) -> Pair:
    """Projections (d_X, l), (d_Y, l) of whitened features: the leading singular pairs."""
    U, values, Vt = linalg.svd(covariance, full_matrices=False)
    r = min(bits, values.size)
    if r == bits:
        return U[:, :r], Vt[:r].T
    frame = random_frame(r, bits, np.random.default_rng(seed))
    scale = np.sqrt(values / values[0])
    return (U * scale) @ frame, (Vt.T * scale) @ frame


def sequential_pairs(
    X: FloatArray, Y: FloatArray, covariance: FloatArray, bits: int, seed: int
) -> Pair:
    """Projections (d_X, l), (d_Y, l) of whitened features: one bit at a time from the residual."""
    start = np.random.default_rng(seed).standard_normal(min(covariance.shape))
    residual = bits * covariance
    columns = []
    for _ in range(bits):
        u, _, vt = svds(residual, k=1, v0=start)
        columns.append((u[:, 0], vt[0]))
        code_x, code_y = signs(X @ u[:, 0]), signs(Y @ vt[0])
        residual = residual - np.outer(X.T @ code_x, Y.T @ code_y)
    return np.stack([u for u, _ in columns], axis=1), np.stack([v for _, v in columns], axis=1)


@dataclass(frozen=True)
class SemanticCorrelation:
    """SCM, sequential unless ``orthogonal`` is set."""

    orthogonal: bool = False
    ridge: float = 0.1
    name: ClassVar[str] = "SCM (supervised)"
    supervised: ClassVar[bool] = True

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`.

        Raises
        ------
        ValueError
            There are no labels.
        """
        if labels is None:
            raise ValueError("SCM is supervised, got no labels. Pass the training labels (n, c).")
        first, second = two_modalities(features)
        white, maps = whitened(features, self.ridge)
        X, Y = white[first], white[second]
        covariance = semantic_covariance(X, Y, labels)
        if self.orthogonal:
            P_x, P_y = orthogonal_pairs(covariance, bits, seed)
        else:
            P_x, P_y = sequential_pairs(X, Y, covariance, bits, seed)
        return linear_codes_from(features, {first: maps[first] @ P_x, second: maps[second] @ P_y})
