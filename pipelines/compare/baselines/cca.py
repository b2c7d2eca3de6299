"""Canonical correlation analysis: sign codes of its variates, and a real-valued reference.

H. Hotelling, "Relations between two sets of variates", Biometrika 28, 1936. As a hashing baseline:
Y. Gong, S. Lazebnik, A. Gordo and F. Perronnin, "Iterative quantization", IEEE TPAMI 35(12), 2013.
As there, directions are scaled by a power of their canonical correlations, here by power 1.

Maximise tr(W_Xᵀ C_XY W_Y) subject to W_Xᵀ (C_XX + γ_X I) W_X = W_Yᵀ (C_YY + γ_Y I) W_Y = I, with
γ_g = ridge · trace(C_gg)/d_g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg

from .linear_algebra import random_frame, regularised_gram, unit_rows
from .protocol import Features, FloatArray, LinearCodes, linear_codes_from, two_modalities


@dataclass(frozen=True)
class CanonicalDirections:
    """Leading canonical directions.

    Parameters
    ----------
    directions : mapping of modality name to array (d_g, r)
        Orthonormal in the regularised scatter matrix of the modality, strongest first.
    correlations : array (r,)
        Canonical correlations in descending order (shrunk by the ridge).
    """

    directions: dict[str, FloatArray]
    correlations: FloatArray

    def scaled(self) -> dict[str, FloatArray]:
        """Directions (d_g, r) times their correlations, so that weak directions count less."""
        return {name: W * self.correlations for name, W in self.directions.items()}


def canonical_directions(features: Features, width: int, ridge: float) -> CanonicalDirections:
    """The r = min(width, d_X, d_Y) leading directions of regularised CCA.

    Parameters
    ----------
    features : mapping of two modality names to centred arrays (n, d_g)
    width : int
        Largest number of directions.
    ridge : float
        Added to each scatter matrix, as a share of its mean eigenvalue.
    """
    first, second = two_modalities(features)
    X, Y = features[first], features[second]
    factor_x = linalg.cholesky(regularised_gram(X, ridge), lower=True)
    factor_y = linalg.cholesky(regularised_gram(Y, ridge), lower=True)
    half = linalg.solve_triangular(factor_x, X.T @ Y, lower=True)
    whitened = linalg.solve_triangular(factor_y, half.T, lower=True).T
    U, correlations, Vt = linalg.svd(whitened, full_matrices=False)
    r = min(width, X.shape[1], Y.shape[1])
    directions = {
        first: linalg.solve_triangular(factor_x, U[:, :r], lower=True, trans="T"),
        second: linalg.solve_triangular(factor_y, Vt[:r].T, lower=True, trans="T"),
    }
    return CanonicalDirections(directions, correlations[:r])


@dataclass(frozen=True)
class CcaSign:
    """Signs of the canonical variates.

    Beyond r = min(d_g) bits, one random frame (r, l) for both modalities spreads the r directions,
    scaled by their correlations, over the code.
    """

    ridge: float = 0.1
    name: ClassVar[str] = "CCA-sign"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        cca = canonical_directions(features, bits, self.ridge)
        r = cca.correlations.size
        if r == bits:
            return linear_codes_from(features, cca.directions)
        frame = random_frame(r, bits, np.random.default_rng(seed))
        return linear_codes_from(features, {n: W @ frame for n, W in cca.scaled().items()})


@dataclass(frozen=True)
class CosineModel:
    """Real-valued embeddings X W_g, compared by cosine.

    Parameters
    ----------
    projections : mapping of modality name to array (d_g, r), or None for the identity
    """

    projections: dict[str, FloatArray | None]

    def embed(self, modality: str, X: FloatArray) -> FloatArray:
        """Unit-length embeddings (m, r) of the rows of ``X`` (m, d_g)."""
        W = self.projections[modality]
        return unit_rows(X if W is None else X @ W)

    def distances(
        self, query_modality: str, Q: FloatArray, database_modality: str, X: FloatArray
    ) -> FloatArray:
        """Negative cosine, (q, m)."""
        return np.asarray(-self.embed(query_modality, Q) @ self.embed(database_modality, X).T)


@dataclass(frozen=True)
class FloatCca:
    """The real-valued canonical embedding, scaled by the correlations.

    It ignores ``bits``: the width is a parameter, so that the table can show the best of several
    widths. A row needs 4 · width bytes in float32.
    """

    width: int = 32
    ridge: float = 0.1
    name: ClassVar[str] = "float CCA"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> CosineModel:
        """See `Method`."""
        return CosineModel(dict(canonical_directions(features, self.width, self.ridge).scaled()))
