"""CCA-ITQ from Gram matrices: canonical correlation analysis with iterative quantisation.

CCA-ITQ is the baseline to which a run is compared. It has canonical directions (H. Hotelling,
Biometrika 28, 1936), each scaled by its correlation, and one rotation for both modalities.
Reference: Y. Gong, S. Lazebnik, A. Gordo and F. Perronnin, "Iterative quantization: a Procrustean
approach to learning binary codes for large-scale image retrieval", IEEE TPAMI 35(12), 2013.
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
    """Compute the leading canonical directions, each multiplied by its correlation.

    The directions maximise tr(W_x' C_xy W_y) subject to W_g' (C_gg + γ_g I) W_g = I, with
    γ_g = ``ridge`` · tr(C_gg) / d_g.

    Parameters
    ----------
    grams : Gram matrices C_gh = X_g X_h' (d_g, d_h) of centred features, by (g, h). One of the
        keys (x, y) and (y, x) is enough.
    first, second : names x and y of the modalities.
    width : maximum number of directions.

    Returns
    -------
    Directions (d_g, r) by modality, with r = min(width, d_x, d_y), by descending correlation.

    Raises
    ------
    numpy.linalg.LinAlgError : C_gg + γ_g I is not positive definite, for example if X_g = 0.
    """
    crossed = grams.get((first, second))
    product = grams[second, first].T if crossed is None else crossed
    factors = [_factor(grams[g, g], ridge) for g in (first, second)]
    half = linalg.solve_triangular(factors[0], product, lower=True)
    whitened = linalg.solve_triangular(factors[1], half.T, lower=True).T
    left, correlations, right = linalg.svd(whitened, full_matrices=False)
    r = min(width, len(correlations))
    sides = zip((first, second), factors, (left[:, :r], right[:r].T), strict=True)
    return {
        g: linalg.solve_triangular(factor, basis, lower=True, trans="T") * correlations[:r]
        for g, factor, basis in sides
    }


def quantising_rotation(embedding: Matrix, start: Matrix, iterations: int) -> Matrix:
    """Compute the ITQ rotation R, which reduces the error ‖B - VR‖² of B = sign(VR).

    The method alternates B = sign(VR) and R = polar factor of V'B. No step increases the error.

    Parameters
    ----------
    embedding : (m, r) V, the m rows to quantise.
    start : (r, r) orthogonal initial R.
    iterations : number of alternations.

    Returns
    -------
    R, (r, r) orthogonal.
    """
    rotation = start
    for _ in range(iterations):
        signs = np.where(embedding @ rotation >= 0, 1.0, -1.0)
        rotation = polar_factor(embedding.T @ signs)
    return rotation


def padded_encoders(
    directions: Mapping[str, Matrix], rotation: Matrix, bits: int
) -> dict[str, Matrix]:
    """Compute the encoders (W_g R)' by modality, padded to ``bits`` rows.

    The added rows are zero, so the bits that they produce are constant.

    Parameters
    ----------
    directions : (d_g, r) W_g by modality.
    rotation : (r, r) R.

    Returns
    -------
    Encoders (bits, d_g) by modality.
    """
    return {
        g: np.pad((w @ rotation).T, ((0, bits - rotation.shape[1]), (0, 0)))
        for g, w in directions.items()
    }


def _factor(gram: Matrix, ridge: float) -> Matrix:
    """Compute the lower Cholesky factor of C + γI, with γ = ``ridge`` · tr(C) / d."""
    penalty = ridge * np.trace(gram) / len(gram)
    factor: Matrix = linalg.cholesky(gram + penalty * np.eye(len(gram)), lower=True)
    return factor
