"""Quantised correlation hashing (QCH).

B. Wu, Q. Yang, W.-S. Zheng, Y. Wang and J. Wang, "Quantized correlation hashing for fast
cross-modal search", IJCAI 2015.

One objective combines correlation and quantisation: minimise over B_g in {-1, +1} and W_g

    ‖X W_X - Y W_Y‖² + ν (‖B_X - X W_X‖² + ‖B_Y - Y W_Y‖²) + ridge terms
    subject to  W_gᵀ (X_gᵀX_g + γ_g I) W_g = n I.

In whitened features X̃_g = √n X_g (X_gᵀX_g + γ_g I)^(-1/2), W_g becomes P_g with P_gᵀP_g = I. With
γ_g‖W_g‖² added to each squared error, the quadratic terms are constant. The rest,

    -2 tr(P_Xᵀ X̃ᵀ Ỹ P_Y) - 2ν Σ_g tr(B_gᵀ X̃_g P_g),

is linear in each of B_X, B_Y, P_X and P_Y alone: B_g = sign(X̃_g P_g), and P_X is the polar factor
of X̃ᵀ(Ỹ P_Y + ν B_X). Each step is exact, so the objective never rises.

Uncertain: the paper was not available. The objective follows published summaries (quantisation loss
and correlation together, alternating). Weights, constraint and solver are a reconstruction. Beyond
d_g bits P_g has orthonormal rows, and the same derivation holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg

from .linear_algebra import polar_factor, random_frame, regularised_gram
from .protocol import CodeArray, Features, FloatArray, LinearCodes, signs, two_modalities

Pair = tuple[FloatArray, FloatArray]


def whitening(X: FloatArray, ridge: float) -> FloatArray:
    """Whitening matrix √n (XᵀX + γI)^(-1/2), (d, d), of ``X`` (n, d)."""
    values, vectors = linalg.eigh(regularised_gram(X, ridge))
    return np.asarray(np.sqrt(X.shape[0]) * (vectors / np.sqrt(values)) @ vectors.T)


def objective(white: Pair, P: Pair, codes: tuple[CodeArray, CodeArray], weight: float) -> float:
    """The objective without its constant terms."""
    x, y = (X @ p for X, p in zip(white, P, strict=True))
    agreement = np.sum(x * y) + weight * (np.sum(codes[0] * x) + np.sum(codes[1] * y))
    return float(-2 * agreement)


def update_projection(
    own: FloatArray, other: FloatArray, P_other: FloatArray, codes: CodeArray, weight: float
) -> FloatArray:
    """Optimal P (d, l) of one modality for its codes and the other's projection."""
    return polar_factor(own.T @ (other @ P_other + weight * codes))


def start(white: Pair, bits: int, seed: int) -> Pair:
    """Initial P_X, P_Y: canonical directions, randomly rotated, and padded to the code length."""
    rng = np.random.default_rng(seed)
    U, _, Vt = linalg.svd(white[0].T @ white[1], full_matrices=False)
    r = min(bits, U.shape[1])
    frame = random_frame(r, bits, rng)
    # The frame has the rank of the narrower modality; noise gives the wider one its full rank.
    noise = [1e-3 * rng.standard_normal((X.shape[1], bits)) for X in white]
    P_x, P_y = (polar_factor(D[:, :r] @ frame + e) for D, e in zip((U, Vt.T), noise, strict=True))
    return P_x, P_y


@dataclass(frozen=True)
class QuantisedCorrelation:
    """QCH.

    Parameters
    ----------
    weight : float
        ν, the weight of the quantisation errors relative to the distance of the variates.
    ridge : float
        Added to the scatter matrices, as a share of their mean eigenvalue.
    iterations : int
        Alternations.
    """

    weight: float = 1.0
    ridge: float = 0.1
    iterations: int = 50
    name: ClassVar[str] = "QCH"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        first, second = two_modalities(features)
        maps = {g: whitening(X, self.ridge) for g, X in features.items()}
        X, Y = features[first] @ maps[first], features[second] @ maps[second]
        P_x, P_y = start((X, Y), bits, seed)
        for _ in range(self.iterations):
            P_x = update_projection(X, Y, P_y, signs(X @ P_x), self.weight)
            P_y = update_projection(Y, X, P_x, signs(Y @ P_y), self.weight)
        projections = {first: maps[first] @ P_x, second: maps[second] @ P_y}
        return LinearCodes(projections, train_codes=signs(X @ P_x + Y @ P_y))
