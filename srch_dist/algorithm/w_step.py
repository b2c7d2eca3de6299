"""W-step, line 5 of Algorithm 1: W_g = Q Uᵀ from the compact SVD X_g Bᵀ = U Σ Qᵀ (Eq. 11)."""

from __future__ import annotations

from collections.abc import Mapping

from srch_dist.kernels.projections import procrustes
from srch_dist.kernels.types import Matrix


def w_step(cross_covariance: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Compute the orthonormal W_g that maximise tr(W_g X_g Bᵀ) (Eqs. 10 and 11), on the client.

    Parameters
    ----------
    cross_covariance : X_g Bᵀ as (d_g, l) float64, by modality.

    Returns
    -------
    W_g (l, d_g) by modality: orthonormal rows if l ≤ d_g, else orthonormal columns.
    """
    return {g: procrustes(matrix) for g, matrix in cross_covariance.items()}
