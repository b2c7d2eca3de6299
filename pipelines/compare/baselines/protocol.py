"""What every baseline offers, and the two kinds of model that a fit returns.

Samples are rows. The caller centres each modality with its training mean and scales every row to
unit length, the same for all methods; no method does it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.int8]
Features = Mapping[str, FloatArray]


@runtime_checkable
class CodeModel(Protocol):
    """A model whose output is compared by Hamming distance."""

    @property
    def train_codes(self) -> CodeArray | None:
        """Codes (n, l) of the training rows, one a row for all modalities, or None."""

    def encode(self, modality: str, X: FloatArray) -> CodeArray:
        """Codes (m, l) with entries -1 and +1 of the rows of ``X`` (m, d_g)."""


@runtime_checkable
class DistanceModel(Protocol):
    """A model that is ranked by real distances: the references that are not binary."""

    def distances(
        self, query_modality: str, Q: FloatArray, database_modality: str, X: FloatArray
    ) -> FloatArray:
        """Distances (q, m) from the rows of ``Q`` (q, d_g) to those of ``X`` (m, d_h)."""


class Method(Protocol):
    """A baseline: a frozen dataclass of its own parameters, with ``fit``."""

    name: ClassVar[str]
    supervised: ClassVar[bool]

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> CodeModel | DistanceModel:
        """Learn from paired training rows.

        Parameters
        ----------
        features : mapping of modality name to array (n, d_g)
            Row i of every array belongs to the same object.
        bits : int
            Code length l, or for real-valued references the budget that the comparison asks for.
        seed : int
            The only source of randomness.
        labels : array (n, c), optional
            Multi-hot; read by methods with ``supervised`` set, ignored by the others.
        """


@dataclass(frozen=True)
class LinearCodes:
    """Codes sign(X W_g - t_g), the encoder of nearly every method here.

    Parameters
    ----------
    projections : mapping of modality name to array (d_g, l)
    train_codes : array (n, l) of -1 and +1, or None
    thresholds : mapping of modality name to array (l,), optional
        Zero where absent.
    """

    projections: Mapping[str, FloatArray]
    train_codes: CodeArray | None = None
    thresholds: Mapping[str, FloatArray] | None = None

    def encode(self, modality: str, X: FloatArray) -> CodeArray:
        """Codes (m, l) of the rows of ``X`` (m, d_g)."""
        projected = X @ self.projections[modality]
        if self.thresholds is not None:
            projected = projected - self.thresholds[modality]
        return signs(projected)


def signs(values: FloatArray) -> CodeArray:
    """Signs as int8, with sign(0) = +1 so that every entry is -1 or +1."""
    return np.where(values >= 0, np.int8(1), np.int8(-1))


def linear_codes_from(features: Features, projections: Mapping[str, FloatArray]) -> LinearCodes:
    """Linear codes whose common training codes are the sign of the summed projections.

    For methods that code each modality on its own and so have no common code of a training row.
    """
    total = sum((features[name] @ W for name, W in projections.items()), start=np.zeros(1))
    return LinearCodes(projections, train_codes=signs(np.asarray(total)))


def two_modalities(features: Features) -> tuple[str, str]:
    """Names of the two modalities, in the mapping's order.

    Raises
    ------
    ValueError
        If there are not exactly two, or their rows do not pair up.
    """
    if len(features) != 2:
        raise ValueError(
            f"this method is defined for 2 modalities, found {len(features)} ({list(features)}): "
            "pass a pair"
        )
    first, second = features
    rows = (features[first].shape[0], features[second].shape[0])
    if rows[0] != rows[1]:
        raise ValueError(
            f"training rows must be paired, found {rows[0]} of {first!r} and {rows[1]} of "
            f"{second!r}: pass the rows that both modalities have"
        )
    return first, second
