"""Random hyperplanes.

M. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002: for Gaussian
r, P[sign(rᵀx) ≠ sign(rᵀy)] = angle(x, y) / π.

Each modality has its own hyperplanes (their dimensions differ), so that the codes of two
modalities share nothing: across modalities the method ranks at random and marks the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .protocol import Features, FloatArray, LinearCodes


@dataclass(frozen=True)
class RandomHyperplanes:
    """Signs of Gaussian projections, drawn a modality at a time; any number of bits."""

    name: ClassVar[str] = "random hyperplanes"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`. No common training codes are learnt."""
        rng = np.random.default_rng(seed)
        return LinearCodes(
            {n: rng.standard_normal((X.shape[1], bits)) for n, X in features.items()}
        )
