"""Projections from small matrices, in closed form: W-step (Eq. 11), ridge encoder, scales."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.linalg

from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.types import Matrix


def procrustes(cross_covariance: Matrix) -> Matrix:
    """Compute the orthonormal W that maximises tr(WXB') (W-step, Eqs. 10 and 11).

    Parameters
    ----------
    cross_covariance : (d, l) XB'.

    Returns
    -------
    W (l, d). Its rows are orthonormal if l ≤ d, its columns if l > d.
    """
    return np.ascontiguousarray(polar_factor(cross_covariance).T)


def ridge_encoder(gram: Matrix, cross_covariance: Matrix, ridge: float) -> Matrix:
    """Fit codes B to features X: W = BX' (XX' + γI)⁻¹, with γ = ``ridge`` · tr(XX') / d.

    Parameters
    ----------
    gram : (d, d) XX' over the training rows.
    cross_covariance : (d, l) XB'.
    ridge : penalty in units of the mean eigenvalue of XX'.

    Returns
    -------
    W (l, d); zero if all features are zero.
    """
    d = len(gram)
    penalty = ridge * np.trace(gram) / d
    if penalty == 0.0:
        return np.zeros(cross_covariance.shape[::-1])
    solution: Matrix = scipy.linalg.solve(
        gram + penalty * np.eye(d), cross_covariance, assume_a="pos"
    )
    return np.ascontiguousarray(solution.T)


def polar_factor(matrix: Matrix) -> Matrix:
    """Compute the polar factor QU' of a matrix (m, n) with compact SVD QΣU'.

    Of all matrices with orthonormal columns (if m ≥ n) or rows (if m < n), the polar factor is the
    nearest to ``matrix``.
    """
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left @ right)


def projection_energy(w: Matrix, gram: Matrix) -> float:
    """Compute ‖WX‖² = tr(W XX' W') from W (l, d) and the Gram matrix XX' (d, d)."""
    return float(np.einsum("ij,ij->", w @ gram, w))


def balanced_scales(
    projections: Mapping[str, Matrix], grams: GramMatrices, n: int, weights: Mapping[str, float]
) -> dict[str, float]:
    """Compute factors s_g so that P = Σ_g s_g W_g X_g has rms 1 and s_g W_g X_g has rms ∝ w_g.

    rms is the root mean square of all entries. The factors are computed from the Gram matrices,
    without a pass over X.

    Parameters
    ----------
    projections : (l, d_g) W_g by modality.
    grams : (d_g, d_h) X_g X_h' by (g, h), with only one of the keys (g, h) and (h, g).
    n : number of rows.
    weights : w_g by modality.

    Returns
    -------
    s_g by modality; 0 if W_g X_g is zero, and 0 for all if P is zero within rounding.
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
    # If the terms cancel, the sum is rounding error and may be negative.
    overall = np.sqrt(entries / total) if total > 1e-12 * entries else 0.0
    return {g: float(factor * overall) for g, factor in scale.items()}
