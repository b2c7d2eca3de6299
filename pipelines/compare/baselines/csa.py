"""Canonical similarity analysis (CSA).

P.-H. Li, S. P. Chinchali and U. Topcu, "CSA: Data-efficient mapping of unimodal features to
multimodal features", ICLR 2025.

CCA of the paired features; the similarity of two rows is a cosine in which each canonical variate
counts with its correlation: Σ ρ_i u_i v_i / (‖u‖ ‖v‖) over the leading r variates.

Difference: the covariances have a ridge, as for every CCA here. The paper uses a pseudo-inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .cca import CosineModel, canonical_directions
from .protocol import Features, FloatArray


@dataclass(frozen=True)
class CanonicalSimilarity:
    """Canonical variates of both modalities, and their correlations (r,)."""

    variates: CosineModel
    correlations: FloatArray

    def distances(
        self, query_modality: str, Q: FloatArray, database_modality: str, X: FloatArray
    ) -> FloatArray:
        """Negative weighted cosine, (q, m)."""
        queries = self.variates.embed(query_modality, Q) * self.correlations
        return np.asarray(-queries @ self.variates.embed(database_modality, X).T)


@dataclass(frozen=True)
class Csa:
    """CSA; it ignores ``bits``. A row needs 4 · width bytes in float32."""

    width: int = 64
    ridge: float = 0.1
    name: ClassVar[str] = "CSA"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> CanonicalSimilarity:
        """See `Method`."""
        cca = canonical_directions(features, self.width, self.ridge)
        return CanonicalSimilarity(CosineModel(dict(cca.directions)), cca.correlations)
