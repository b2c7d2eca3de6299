"""Canonical correlation analysis with iterative quantisation (CCA-ITQ), from Gram matrices.

Y. Gong, S. Lazebnik, A. Gordo and F. Perronnin, "Iterative quantization: a Procrustean approach to
learning binary codes for large-scale image retrieval", IEEE TPAMI 35(12), 2013. The baseline that
the codes are held against: H. Hotelling's directions (Biometrika 28, 1936) scaled by their
correlations, and one rotation for both modalities.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import linalg

from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.types import Matrix


def canonical_directions(
    grams: GramMatrices, first: str, second: str, width: int, ridge: float
) -> dict[str, Matrix]:
    """Leading directions W_g (d_g, r) times their canonical correlations, strongest first.

    Maximise tr(W_x' C_xy W_y) subject to W_g' (C_gg + γ_g I) W_g = I, with
    γ_g = ``ridge`` · trace(C_gg) / d_g; r = min(``width``, d_x, d_y). ``grams`` holds X_g' X_h of
    centred features.
    """
    crossed = grams.get((first, second))
    product = grams[second, first].T if crossed is None else crossed
    factors = [_factor(grams[g, g], ridge) for g in (first, second)]
    half = linalg.solve_triangular(factors[0], product, lower=True)
    whitened = linalg.solve_triangular(factors[1], half.T, lower=True).T
    left, correlations, right = linalg.svd(whitened, full_matrices=False)
    r = min(width, len(correlations))
    found = zip((first, second), factors, (left[:, :r], right[:r].T), strict=True)
    return {
        g: linalg.solve_triangular(factor, basis, lower=True, trans="T") * correlations[:r]
        for g, factor, basis in found
    }


def quantising_rotation(embedding: Matrix, start: Matrix, iterations: int) -> Matrix:
    """R (r, r) orthogonal that turns an embedding V (m, r) towards its signs.

    B = sign(V R) and R the polar factor of V'B by turns, which never raises ‖B - V R‖².
    """
    rotation = start
    for _ in range(iterations):
        signs = np.where(embedding @ rotation >= 0, 1.0, -1.0)
        rotation = polar_factor(embedding.T @ signs)
    return rotation


def padded_encoders(
    directions: Mapping[str, Matrix], rotation: Matrix, bits: int
) -> dict[str, Matrix]:
    """(W_g R)' (bits, d_g); rows beyond the width r are zero: bits that tell nothing apart."""
    return {
        g: np.pad((w @ rotation).T, ((0, bits - rotation.shape[1]), (0, 0)))
        for g, w in directions.items()
    }


def _factor(gram: Matrix, ridge: float) -> Matrix:
    """Lower Cholesky factor of C + γ I."""
    amount = ridge * np.trace(gram) / len(gram)
    factor: Matrix = linalg.cholesky(gram + amount * np.eye(len(gram)), lower=True)
    return factor
