"""The W-step of Algorithm 1, and the rule of its B-step."""

from __future__ import annotations

from collections.abc import Mapping

from srch_dist.kernels.projections import procrustes
from srch_dist.kernels.types import Matrix


def w_step(cross_covariance: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """W_g (l, d_g) from X_g B' (d_g, l): Eq. 11, on the client."""
    return {g: procrustes(matrix) for g, matrix in cross_covariance.items()}
