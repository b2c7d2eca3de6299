"""Collective matrix factorisation hashing (CMFH).

G. Ding, Y. Guo and J. Zhou, "Collective matrix factorization hashing for multimodal data",
CVPR 2014.

Minimise alternately over U_g (l, d_g), P_g (d_g, l) and the shared V (n, l)

    Σ_g λ_g ‖X_g - V U_g‖² + μ Σ_g ‖V - X_g P_g‖² + γ (‖V‖² + Σ_g ‖U_g‖² + Σ_g ‖P_g‖²).

Each of the three steps has a closed form, so the objective never rises. Training codes are sign(V),
codes out of sample sign(X_g P_g). Any number of modalities and bits is possible.

Differences: λ_g = 1/G for all modalities; the paper has λ and 1 - λ, and uses 1/2. Features have
unit norm, so γ has another scale than in the paper; the grid covers it. The paper subtracts the
mean of V before taking the sign. Here V is a linear map of centred features plus a random start
that decays, so its column means are close to 0 and the threshold is 0.
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
        Weights μ of the encoders' fit and γ of the norms.
    iterations : int
        Largest number of alternations.
    tolerance : float
        Stop when the relative decrease of the objective is not above this.
    """

    mu: float = 100.0
    gamma: float = 0.01
    iterations: int = 50
    tolerance: float = 1e-4
    name: ClassVar[str] = "CMFH"
    supervised: ClassVar[bool] = False

    def objective(self, features: Features, factors: Factors) -> float:
        """Value of the objective; no update increases it."""
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
        """Matrix (d_g, n) that maps V to the optimal P_g; it does not change between iterations."""
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
        """V with its optimal U and P; ``maps`` are those of `encoder_map` by modality."""
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
