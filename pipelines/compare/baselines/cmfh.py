"""Collective matrix factorisation hashing (CMFH).

G. Ding, Y. Guo and J. Zhou, "Collective matrix factorization hashing for multimodal data",
CVPR 2014.

Minimise over U_g (l, d_g), P_g (d_g, l) and the shared V (n, l)

    Σ_g λ_g ‖X_g - V U_g‖² + μ Σ_g ‖V - X_g P_g‖² + γ (‖V‖² + Σ_g ‖U_g‖² + Σ_g ‖P_g‖²)

by turns; each of the three has a closed form and the objective never rises. Training codes are
sign(V), codes out of sample sign(X_g P_g). Any number of modalities and any number of bits.

Differs: λ_g = 1/G for all (the source has λ and 1 - λ, and uses 1/2). Features are of unit norm
here, so that γ is on another scale than in the source; the grid spans it. The source subtracts the
mean of V before the sign; V is a linear map of centred features plus a random start that dies
out, and its columns' means are close to 0, so the sign is taken at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg

from .protocol import Features, FloatArray, LinearCodes, signs


@dataclass(frozen=True)
class Factors:
    """V (n, l), and by modality U_g (l, d_g) and P_g (d_g, l)."""

    V: FloatArray
    U: dict[str, FloatArray]
    P: dict[str, FloatArray]


@dataclass(frozen=True)
class CollectiveMatrixFactorisation:
    """CMFH.

    Parameters
    ----------
    mu, gamma : float
        Weights of the encoders' fit and of the norms.
    iterations, tolerance
        Stop after so many alternations, or at a smaller relative decrease of the objective.
    """

    mu: float = 100.0
    gamma: float = 0.01
    iterations: int = 50
    tolerance: float = 1e-4
    name: ClassVar[str] = "CMFH"
    supervised: ClassVar[bool] = False

    def objective(self, features: Features, factors: Factors) -> float:
        """The value that each update decreases."""
        total = self.gamma * np.sum(factors.V**2)
        for g, X in features.items():
            U, P = factors.U[g], factors.P[g]
            total += np.sum((X - factors.V @ U) ** 2) / len(features)
            total += self.mu * np.sum((factors.V - X @ P) ** 2)
            total += self.gamma * (np.sum(U**2) + np.sum(P**2))
        return float(total)

    def update_u(self, X: FloatArray, V: FloatArray, modalities: int) -> FloatArray:
        """U_g (l, d_g) minimising the objective for V (n, l)."""
        gram = V.T @ V + self.gamma * modalities * np.eye(V.shape[1])
        return np.asarray(linalg.solve(gram, V.T @ X, assume_a="pos"))

    def encoder_map(self, X: FloatArray) -> FloatArray:
        """Matrix (d_g, n) that takes V to the P_g minimising the objective; worked out once."""
        gram = X.T @ X + self.gamma / self.mu * np.eye(X.shape[1])
        return np.asarray(linalg.solve(gram, X.T, assume_a="pos"))

    def update_v(
        self, features: Features, U: dict[str, FloatArray], P: dict[str, FloatArray]
    ) -> FloatArray:
        """V (n, l) minimising the objective for all U_g and P_g."""
        modalities = len(features)
        bits = next(iter(U.values())).shape[0]
        gram = (self.mu * modalities + self.gamma) * np.eye(bits)
        target = np.zeros((next(iter(features.values())).shape[0], bits))
        for g, X in features.items():
            gram = gram + U[g] @ U[g].T / modalities
            target = target + X @ (U[g].T / modalities + self.mu * P[g])
        return np.asarray(linalg.solve(gram, target.T, assume_a="pos").T)

    def fitted(self, features: Features, maps: dict[str, FloatArray], V: FloatArray) -> Factors:
        """V with the U and P that are best for it; ``maps`` as from `encoder_map`."""
        U = {g: self.update_u(X, V, len(features)) for g, X in features.items()}
        return Factors(V, U, {g: E @ V for g, E in maps.items()})

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        maps = {g: self.encoder_map(X) for g, X in features.items()}
        n = next(iter(features.values())).shape[0]
        start = np.random.default_rng(seed).standard_normal((n, bits))
        factors = self.fitted(features, maps, start)
        value = self.objective(features, factors)
        for _ in range(self.iterations):
            V = self.update_v(features, factors.U, factors.P)
            factors = self.fitted(features, maps, V)
            previous, value = value, self.objective(features, factors)
            if previous - value <= self.tolerance * previous:
                break
        return LinearCodes(factors.P, train_codes=signs(factors.V))
