"""Iterative quantisation of the canonical embedding (CCA-ITQ).

Y. Gong, S. Lazebnik, A. Gordo and F. Perronnin, "Iterative quantization: a Procrustean approach to
learning binary codes for large-scale image retrieval", IEEE TPAMI 35(12), 2013.

Minimise ‖B - V R‖² alternately over B in {-1, +1} and R with R Rᵀ = I: B = sign(V R), then R is the
polar factor of Vᵀ B. V (2n, r) stacks the canonical variates of both modalities.

Difference: V has the training rows of both modalities, so that both share one rotation. The paper
rotates the image variates only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cca import canonical_directions
from .linear_algebra import polar_factor, random_frame
from .protocol import Features, FloatArray, LinearCodes, linear_codes_from, signs


def quantisation_error(V: FloatArray, R: FloatArray) -> float:
    """‖sign(V R) - V R‖² for an embedding (n, r) and a frame (r, l)."""
    projected = V @ R
    return float(np.sum((signs(projected) - projected) ** 2))


def itq_frame(V: FloatArray, start: FloatArray, iterations: int) -> FloatArray:
    """Frame (r, l) with R Rᵀ = I after ``iterations`` alternations from ``start``.

    For l > r, ‖V R‖ = ‖V‖ still holds. The polar factor therefore remains the exact minimiser, and
    the error never rises.
    """
    R = start
    for _ in range(iterations):
        R = polar_factor(V.T @ signs(V @ R))
    return R


@dataclass(frozen=True)
class CcaItq:
    """CCA, then one rotation for both modalities.

    Parameters
    ----------
    width : int, optional
        Number of canonical directions. Default: min(bits, d_g).
    extend : bool
        If the width r is below ``bits``: False gives codes of r bits, as the published method does.
        True learns a frame (r, bits) and fills the code.
    ridge : float
        Added to the covariances, as a share of their mean eigenvalue.
    iterations : int
        Alternations.
    """

    width: int | None = None
    extend: bool = False
    ridge: float = 0.1
    iterations: int = 50
    name: ClassVar[str] = "CCA-ITQ"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        width = bits if self.width is None else min(self.width, bits)
        directions = canonical_directions(features, width, self.ridge).scaled()
        V = np.vstack([features[name] @ W for name, W in directions.items()])
        columns = bits if self.extend else V.shape[1]
        start = random_frame(V.shape[1], columns, np.random.default_rng(seed))
        R = itq_frame(V, start, self.iterations)
        return linear_codes_from(features, {name: W @ R for name, W in directions.items()})


@dataclass(frozen=True)
class CcaItqExtended(CcaItq):
    """CCA-ITQ that fills all bits from few directions; not published, and stronger."""

    extend: bool = True
    name: ClassVar[str] = "CCA-ITQ, extended"
