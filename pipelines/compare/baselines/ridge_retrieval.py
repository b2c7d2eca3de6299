"""Real-valued reference: ridge regression from one modality into the other, ranked by cosine.

Minimise ‖Y - X W‖² + γ‖W‖², γ = ridge · trace(XᵀX)/d. W maps rows of the source modality; rows of
the target modality are compared unchanged. A row needs 4 · d_target bytes in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .cca import CosineModel
from .linear_algebra import ridge_regression
from .protocol import Features, FloatArray, two_modalities


@dataclass(frozen=True)
class FloatRidge:
    """Ridge regression onto the features of ``target`` (0: first modality, 1: second)."""

    target: int = 1
    ridge: float = 0.1
    name: ClassVar[str] = "float ridge"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> CosineModel:
        """See `Method`. ``bits`` and ``seed`` are ignored."""
        names = two_modalities(features)
        target, source = names[self.target], names[1 - self.target]
        W = ridge_regression(features[source], features[target], self.ridge)
        return CosineModel({source: W, target: None})
