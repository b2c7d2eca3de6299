"""Methods for modalities that share one space already, such as the two encoders of CLIP.

They compare the vectors of both modalities directly, so both need the same number of dimensions:
the cosine of the vectors themselves, product quantisation of them at equal bytes (H. Jégou,
M. Douze and C. Schmid, IEEE TPAMI 33(1), 2011), and PCA-ITQ (Y. Gong et al., IEEE TPAMI 35(12),
2013) of the stacked rows of both modalities. The features are centred with the mean of their own
modality, as for every method here. For PCA-ITQ beyond d bits, a frame spreads the d directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg

from .cca import CosineModel
from .itq import itq_frame
from .linear_algebra import random_frame
from .product_quantisation import PqModel, train_quantiser
from .protocol import Features, FloatArray, LinearCodes, linear_codes_from, two_modalities


@dataclass(frozen=True)
class FloatCosine:
    """Cosine of the features; ``bits`` is ignored. A row has 4 d bytes in float32."""

    name: ClassVar[str] = "float cosine"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> CosineModel:
        """See `Method`.

        Raises
        ------
        ValueError
            If the modalities have different numbers of dimensions.
        """
        _common_width(features)
        return CosineModel(dict.fromkeys(features))


@dataclass(frozen=True)
class FloatProductQuantiser:
    """Product quantisation of the features; queries stay real-valued unless ``symmetric``."""

    symmetric: bool = False
    name: ClassVar[str] = "float PQ, equal bytes"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> PqModel:
        """See `Method`.

        Raises
        ------
        ValueError
            If the modalities have different numbers of dimensions, or ``bits`` is not a multiple
            of 8.
        """
        d = _common_width(features)
        identity = dict.fromkeys(features, np.eye(d))
        return train_quantiser(features, identity, bits, seed, self.symmetric)


@dataclass(frozen=True)
class PcaItq:
    """PCA of the stacked rows of both modalities, then one rotation (ITQ)."""

    iterations: int = 50
    name: ClassVar[str] = "PCA-ITQ, stacked"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`.

        Raises
        ------
        ValueError
            If the modalities have different numbers of dimensions.
        """
        d = _common_width(features)
        stacked = np.vstack(list(features.values()))
        r = min(bits, d)
        _, vectors = linalg.eigh(stacked.T @ stacked, subset_by_index=(d - r, d - 1))
        V = stacked @ vectors
        start = random_frame(r, bits, np.random.default_rng(seed))
        W = vectors @ itq_frame(V, start, self.iterations)
        return linear_codes_from(features, dict.fromkeys(features, W))


def _common_width(features: Features) -> int:
    first, second = (features[name].shape[1] for name in two_modalities(features))
    if first != second:
        raise ValueError(
            f"the modalities have {first} and {second} dimensions. This method needs vectors of "
            "one common space."
        )
    return first
