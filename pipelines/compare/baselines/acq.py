"""Alternating co-quantisation (ACQ).

G. Irie, H. Arai and Y. Taniguchi, "Alternating co-quantization for cross-modal hashing", ICCV 2015.

According to the abstract, ACQ alternates on top of CCA: it finds a binary quantiser of each
modality with the help of the other modality's data, for a small quantisation error. Here, for
canonical variates V_g (n, r) of unit mean square, minimise over B_g in {-1, +1} and R_g with R_g
R_gᵀ = I

    Σ_g ‖B_g - V_g R_g‖² + η (‖B_X - V_Y R_Y‖² + ‖B_Y - V_X R_X‖²).

B_X = sign(V_X R_X + η V_Y R_Y), and the same for Y. R_g is the polar factor of V_gᵀ(B_g + η B_h).
Each step is exact, so the objective never rises. With η = 1 both modalities have one code: ITQ with
one rotation per modality. With small η each modality has its own code.

Uncertain: the paper was not available. The cross terms are a reconstruction, and η is their free
weight. Beyond r = min(width, d_g) bits, R_g is a frame (r, l).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cca import canonical_directions
from .linear_algebra import polar_factor, random_frame
from .protocol import CodeArray, Features, FloatArray, LinearCodes, signs, two_modalities


@dataclass(frozen=True)
class CoQuantiser:
    """Variates V_X, V_Y (n, r) and frames R_X, R_Y (r, l)."""

    V: tuple[FloatArray, FloatArray]
    R: tuple[FloatArray, FloatArray]

    def codes(self, coupling: float) -> tuple[CodeArray, CodeArray]:
        """Optimal B_X and B_Y (n, l) for the frames; ``coupling`` is η."""
        x, y = (V @ R for V, R in zip(self.V, self.R, strict=True))
        return signs(x + coupling * y), signs(y + coupling * x)

    def objective(self, codes: tuple[CodeArray, CodeArray], coupling: float) -> float:
        """Quantisation errors within modalities, plus η times those across modalities."""
        x, y = (V @ R for V, R in zip(self.V, self.R, strict=True))
        within = np.sum((codes[0] - x) ** 2) + np.sum((codes[1] - y) ** 2)
        across = np.sum((codes[0] - y) ** 2) + np.sum((codes[1] - x) ** 2)
        return float(within + coupling * across)

    def rotated(self, codes: tuple[CodeArray, CodeArray], coupling: float) -> CoQuantiser:
        """The quantiser with the optimal frames for the codes."""
        pairs = (codes, codes[::-1])
        R_x, R_y = (
            polar_factor(V.T @ (own + coupling * other))
            for V, (own, other) in zip(self.V, pairs, strict=True)
        )
        return CoQuantiser(self.V, (R_x, R_y))


@dataclass(frozen=True)
class AlternatingCoQuantisation:
    """ACQ on CCA.

    Parameters
    ----------
    coupling : float
        η of the module docstring.
    width : int, optional
        Number of canonical directions. Default: min(bits, d_g).
    ridge : float
        Added to the covariances, as a share of their mean eigenvalue.
    iterations : int
        Alternations.
    """

    coupling: float = 1.0
    width: int | None = None
    ridge: float = 0.1
    iterations: int = 50
    name: ClassVar[str] = "ACQ"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        first, second = two_modalities(features)
        width = bits if self.width is None else min(self.width, bits)
        scaled = canonical_directions(features, width, self.ridge).scaled()
        for g, W in scaled.items():
            scaled[g] = W / np.sqrt(np.mean((features[g] @ W) ** 2))
        V = (features[first] @ scaled[first], features[second] @ scaled[second])
        start = random_frame(V[0].shape[1], bits, np.random.default_rng(seed))
        quantiser = CoQuantiser(V, (start, start))
        for _ in range(self.iterations):
            quantiser = quantiser.rotated(quantiser.codes(self.coupling), self.coupling)
        R_x, R_y = quantiser.R
        projections = {first: scaled[first] @ R_x, second: scaled[second] @ R_y}
        return LinearCodes(projections, train_codes=signs(V[0] @ R_x + V[1] @ R_y))
