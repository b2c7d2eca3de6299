"""Matrix computations shared by several methods."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from .protocol import FloatArray


def polar_factor(M: FloatArray) -> FloatArray:
    """Factor U Vᵀ of the compact SVD of ``M`` (r, l): the orthogonal Procrustes solution.

    It maximises tr(Rᵀ M) over R with orthonormal columns (l <= r) or orthonormal rows (l >= r).
    """
    U, _, Vt = linalg.svd(M, full_matrices=False)
    return np.asarray(U @ Vt)


def random_frame(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """Random (rows, columns) matrix with orthonormal rows, or columns if those are fewer.

    With rows < columns it spreads a narrow embedding over a longer code and preserves inner
    products: F Fᵀ = I. With rows = columns it is a random rotation.
    """
    return polar_factor(rng.standard_normal((rows, columns)))


def ridge_amount(X: FloatArray, ridge: float) -> float:
    """The multiple of the identity that is added to XᵀX: ``ridge`` times its mean eigenvalue."""
    return float(ridge * np.sum(X * X) / X.shape[1])


def regularised_gram(X: FloatArray, ridge: float) -> FloatArray:
    """XᵀX + ridge · trace(XᵀX)/d · I, (d, d), for ``X`` (n, d)."""
    gram = X.T @ X
    gram.flat[:: X.shape[1] + 1] += ridge_amount(X, ridge)
    return np.asarray(gram)


def ridge_regression(X: FloatArray, Y: FloatArray, ridge: float) -> FloatArray:
    """Coefficients (d, l) minimising ‖Y - X W‖² + γ‖W‖², γ = ridge · trace(XᵀX)/d."""
    return np.asarray(linalg.solve(regularised_gram(X, ridge), X.T @ Y, assume_a="pos"))


def unit_rows(X: FloatArray) -> FloatArray:
    """Rows scaled to unit length; zero rows stay zero."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms > 0, norms, 1.0))


def column_agreement(U: FloatArray, V: FloatArray) -> FloatArray:
    """Agreement of paired columns, (r,): 2 u·v / (‖u‖² + ‖v‖²), at least 0.

    For canonical variates it is the correlation. It scales directions before a frame spreads them
    over a longer code, so that weak directions do not dominate strong ones.
    """
    scale = np.sum(U * U, axis=0) + np.sum(V * V, axis=0)
    return np.asarray(np.maximum(2 * np.sum(U * V, axis=0) / np.maximum(scale, 1e-300), 0.0))
