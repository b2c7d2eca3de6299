"""Closed forms in (d, l): the W-step, the ridge encoder, and the scale of the projections."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.linalg

from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.types import Matrix


def procrustes(cross_covariance: Matrix) -> Matrix:
    """W (l, d) that maximises tr(W X B') (Eqs. 10 and 11), from X B' as (d, l).

    Its rows are orthonormal where l ≤ d, its columns where l > d.
    """
    return np.ascontiguousarray(polar_factor(cross_covariance).T)


def ridge_encoder(gram: Matrix, cross_covariance: Matrix, ridge: float) -> Matrix:
    """Ridge regression of B on X as a projection (l, d).

    Parameters
    ----------
    gram : (d, d), X'X over the training rows.
    cross_covariance : (d, l), X'B.
    ridge : penalty in units of trace(X'X) / d.
    """
    d = len(gram)
    penalty = ridge * np.trace(gram) / d
    if penalty == 0.0:  # features that are zero everywhere
        return np.zeros(cross_covariance.shape[::-1])
    solution: Matrix = scipy.linalg.solve(
        gram + penalty * np.eye(d), cross_covariance, assume_a="pos"
    )
    return np.ascontiguousarray(solution.T)


def polar_factor(matrix: Matrix) -> Matrix:
    """Q U' of the compact SVD Q Σ U' of a matrix (m, n).

    The nearest one whose columns, or rows where those are fewer, are orthonormal.
    """
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left @ right)


def projection_energy(w: Matrix, gram: Matrix) -> float:
    """‖W X‖² over all rows and bits, from the Gram matrix (d, d)."""
    return float(np.einsum("ij,ij->", w @ gram, w))


def balanced_scales(
    projections: Mapping[str, Matrix], grams: GramMatrices, n: int, weights: Mapping[str, float]
) -> dict[str, float]:
    """Factors s_g such that P = Σ_g s_g W_g X_g has parts of rms ∝ ``weights`` and rms(P) = 1.

    Each W_g X_g is brought to rms w_g, then their sum to 1: both follow from the Gram matrices.
    A modality whose projection is zero everywhere gets the factor 0.
    """
    entries = n * len(next(iter(projections.values())))
    scale: dict[str, float] = {}
    for g, w in projections.items():
        energy = projection_energy(w, grams[g, g])
        scale[g] = weights[g] * np.sqrt(entries / energy) if energy > 0 else 0.0
    total = 0.0
    for (g, h), gram in grams.items():
        part = np.einsum("ij,ij->", projections[g] @ gram, projections[h])
        total += (1.0 if g == h else 2.0) * scale[g] * scale[h] * float(part)
    # Projections that cancel each other leave only rounding, possibly below zero.
    overall = np.sqrt(entries / total) if total > 1e-12 * entries else 0.0
    return {g: float(factor * overall) for g, factor in scale.items()}
