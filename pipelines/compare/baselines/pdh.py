"""Predictable dual-view hashing (PDH).

M. Rastegari, J. Choi, S. Fakhraei, H. Daumé III and L. Davis, "Predictable dual-view hashing",
ICML 2013.

Each bit of one view should be predicted with a large margin from the other view. For hyperplanes
W_g (d_g, l), bits Y_g in {-1, +1}, (n, l), and the other view h, minimise

    Σ_g ‖Y_gᵀY_g / n - I‖² + Σ_g ‖W_g‖² + C Σ_g Σ hinge(1 - Y_h ∘ (X_g W_g)),   Y_g = sign(X_g W_g).

Block coordinate descent starts from the bits of CCA. The hyperplanes of a view are SVMs trained on
the bits of the other view. The bits of a view are the signs of the matrix with orthonormal columns
nearest to its margins, which makes the bits uncorrelated.

Uncertain: the paper was not available. How it relaxes the correlation term is unknown; the polar
factor of the margins is a stand-in (``decorrelate``) and requires l <= n. The SVMs use the squared
hinge without an intercept, since features are centred; all l are solved at once, and C is per row.
Beyond min(d_g) bits, a random frame spreads CCA's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cca import CcaSign
from .linear_algebra import polar_factor
from .protocol import CodeArray, Features, FloatArray, LinearCodes, signs, two_modalities


def svm_objective(X: FloatArray, Y: CodeArray, W: FloatArray, C: float) -> FloatArray:
    """½‖w‖² + C Σ max(0, 1 - y·xw)² of each column, (l,)."""
    slack = np.maximum(0.0, 1.0 - Y * (X @ W))
    return np.asarray(0.5 * np.sum(W**2, axis=0) + C * np.sum(slack**2, axis=0))


def linear_svms(
    X: FloatArray, Y: CodeArray, C: float, tolerance: float = 1e-3, iterations: int = 500
) -> FloatArray:
    """Hyperplanes (d, l) of l linear SVMs with squared hinge and no intercept.

    Accelerated gradient descent on all columns at once; it restarts when a step goes uphill.

    Parameters
    ----------
    X : array (n, d)
    Y : array (n, l) of -1 and +1
        Targets, one SVM per column.
    C : float
        Weight of the squared hinge of a row.
    tolerance : float
        Stop when the gradient norm of every column is at most this share of its first one.
    iterations : int
        Largest number of steps.
    """
    curvature = 1.0 + 2.0 * C * np.linalg.norm(X.T @ X, 2)
    W = np.zeros((X.shape[1], Y.shape[1]))
    ahead, momentum = W, 1.0
    first = 2.0 * C * np.linalg.norm(X.T @ Y, axis=0)
    for _ in range(iterations):
        slack = np.maximum(0.0, 1.0 - Y * (X @ ahead))
        gradient = ahead - 2.0 * C * (X.T @ (Y * slack))
        if np.all(np.linalg.norm(gradient, axis=0) <= tolerance * first):
            return np.asarray(ahead)
        previous, W = W, ahead - gradient / curvature
        if np.sum(gradient * (W - previous)) > 0:
            ahead, momentum = W, 1.0
            continue
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = W + (momentum - 1.0) / following * (W - previous)
        momentum = following
    return W


def uncorrelated_bits(margins: FloatArray) -> CodeArray:
    """Signs (n, l) of the matrix with orthonormal columns nearest to the margins (n, l)."""
    return signs(polar_factor(margins))


@dataclass(frozen=True)
class PredictableDualView:
    """PDH.

    Parameters
    ----------
    C : float
        Weight of the hinge loss.
    rounds : int
        Passes over both views.
    decorrelate : bool
        Decorrelate the bits of a view before the other view learns them.
    """

    C: float = 1.0
    rounds: int = 3
    decorrelate: bool = True
    name: ClassVar[str] = "PDH"
    supervised: ClassVar[bool] = False

    def bits_of(self, margins: FloatArray) -> CodeArray:
        """Bits (n, l) of a view from its margins (n, l)."""
        return uncorrelated_bits(margins) if self.decorrelate else signs(margins)

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        first, second = two_modalities(features)
        X, Y = features[first], features[second]
        bits_y = CcaSign().fit(features, bits, seed).encode(second, Y)
        for _ in range(self.rounds):
            W_x = linear_svms(X, bits_y, self.C)
            bits_x = self.bits_of(X @ W_x)
            W_y = linear_svms(Y, bits_x, self.C)
            bits_y = self.bits_of(Y @ W_y)
        return LinearCodes({first: W_x, second: W_y}, train_codes=signs(X @ W_x + Y @ W_y))
