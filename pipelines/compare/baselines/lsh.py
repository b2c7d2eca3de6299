"""Random hyperplanes.

M. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002: for Gaussian
r, P[sign(rᵀx) ≠ sign(rᵀy)] = angle(x, y) / π.

Each modality has its own hyperplanes, since dimensions differ. The codes of two modalities are
therefore unrelated: across modalities the method ranks at random and is the lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .protocol import Features, FloatArray, LinearCodes


@dataclass(frozen=True)
class RandomHyperplanes:
    """Signs of Gaussian projections, drawn per modality, for any number of bits."""

    name: ClassVar[str] = "random hyperplanes"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`. The model has no common training codes."""
        rng = np.random.default_rng(seed)
        return LinearCodes(
            {n: rng.standard_normal((X.shape[1], bits)) for n, X in features.items()}
        )
