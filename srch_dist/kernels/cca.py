"""Canonical correlation analysis from Gram matrices: pair directions, and the baseline CCA-ITQ.

Canonical directions (H. Hotelling, Biometrika 28, 1936) are those in which the halves of a pair
agree. The final codes use them to tell one pair from the next. The baseline scales them by their
correlations and quantises them with one rotation for both modalities: Y. Gong, S. Lazebnik,
A. Gordo and F. Perronnin, "Iterative quantization: a Procrustean approach to learning binary codes
for large-scale image retrieval", IEEE TPAMI 35(12), 2013. For more than two modalities, the
directions maximise the sum of their correlations (J. R. Kettenring, Biometrika 58, 1971).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    bases, correlations = _two_sets(grams, (first, second), ridge)
    return {g: basis[:, :width] * correlations[:width] for g, basis in bases.items()}


def pair_directions(
    grams: GramMatrices, weights: Mapping[str, float], n: int, width: int, ridge: float
) -> dict[str, Matrix]:
    """Compute maps A_g (d_g, k) to k ≤ ``width`` pair directions P = Σ_g X_g A_g (n, k).

    A_g are the leading canonical directions, multiplied by their correlations and by the weight of
    the modality. A common factor then makes the mean squared length of a row of P equal to ρ², with
    ρ the largest canonical correlation, if P has all canonical directions. P is therefore small if
    pairs hardly agree.

    Parameters
    ----------
    grams : (d_g, d_h) X_g X_h' of the features, with only one of the keys (g, h) and (h, g).
    weights : w_g by modality.
    n : number of rows.
    ridge : see `canonical_directions`.

    Returns
    -------
    A_g by modality; k is 0 if fewer than two modalities have features other than zero.
    """
    names = [g for g in weights if np.trace(grams[g, g]) > 0]
    if len(names) < 2:
        return {g: np.zeros((len(grams[g, g]), 0)) for g in weights}
    bases, correlations = (
        _two_sets(grams, (names[0], names[1]), ridge)
        if len(names) == 2
        else _many_sets(grams, names, ridge)
    )
    maps = {g: weights[g] * basis * correlations for g, basis in bases.items()}
    energy = 0.0
    for (g, h), gram in grams.items():
        if g in maps and h in maps:
            part = float(np.einsum("ij,ij->", gram @ maps[h], maps[g]))
            energy += (1.0 if g == h else 2.0) * part
    factor = correlations[0] * np.sqrt(n / energy) if energy > 0 else 0.0
    kept = len(correlations[:width])
    absent = {g: np.zeros((len(grams[g, g]), kept)) for g in weights}
    return absent | {g: np.ascontiguousarray(factor * a[:, :kept]) for g, a in maps.items()}


def _two_sets(
    grams: GramMatrices, names: tuple[str, str], ridge: float
) -> tuple[dict[str, Matrix], Matrix]:
    """Compute all canonical directions of two modalities, and their correlations (r,)."""
    factors = {g: _factor(grams[g, g], ridge) for g in names}
    left, correlations, right = linalg.svd(_whitened(grams, names, factors), full_matrices=False)
    sides = zip(names, (left, right.T), strict=True)
    bases = {
        g: linalg.solve_triangular(factors[g], basis, lower=True, trans="T") for g, basis in sides
    }
    return bases, correlations


def _many_sets(
    grams: GramMatrices, names: Sequence[str], ridge: float
) -> tuple[dict[str, Matrix], Matrix]:
    """Compute canonical directions of G modalities, and their mean correlations (r,).

    They are the eigenvectors of the whitened Gram matrix without its diagonal blocks. An eigenvalue
    over G - 1 is a mean correlation. Negative ones are left out. With G = 2, the directions are
    those of `_two_sets`.
    """
    factors = {g: _factor(grams[g, g], ridge) for g in names}
    blocks = [
        [_whitened(grams, (g, h), factors) if g != h else np.zeros_like(factors[g]) for h in names]
        for g in names
    ]
    values, vectors = np.linalg.eigh(np.block(blocks))
    positive = values > 0
    ends = np.cumsum([len(factors[g]) for g in names])[:-1]
    parts = np.split(np.sqrt(len(names)) * vectors[:, positive][:, ::-1], ends)
    bases = {
        g: linalg.solve_triangular(factors[g], part, lower=True, trans="T")
        for g, part in zip(names, parts, strict=True)
    }
    return bases, values[positive][::-1] / (len(names) - 1)


def _whitened(grams: GramMatrices, names: tuple[str, str], factors: Mapping[str, Matrix]) -> Matrix:
    """Compute L_x⁻¹ C_xy L_y⁻¹' (d_x, d_y), with the Cholesky factors L_g of the modalities."""
    x, y = names
    product = grams[x, y] if (x, y) in grams else grams[y, x].T
    half = linalg.solve_triangular(factors[x], product, lower=True)
    whole: Matrix = linalg.solve_triangular(factors[y], half.T, lower=True).T
    return whole


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
    regularised = gram + _penalty(gram, ridge) * np.eye(len(gram))
    factor: Matrix = linalg.cholesky(regularised, lower=True)
    return factor


def _penalty(gram: Matrix, ridge: float) -> float:
    """Compute γ = ``ridge`` · tr(C) / d."""
    return ridge * float(np.trace(gram)) / len(gram)
