"""Interface of every baseline, and the two kinds of model that a fit returns.

Samples are rows. The caller centres each modality with its training mean and normalises every row
to unit length; methods do not repeat it.
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
    """A model that encodes; its codes are compared by Hamming distance."""

    @property
    def train_codes(self) -> CodeArray | None:
        """Codes (n, l) of the training rows, common to all modalities, or None."""

    def encode(self, modality: str, X: FloatArray) -> CodeArray:
        """Codes (m, l) with entries -1 and +1 of the rows of ``X`` (m, d_g)."""


@runtime_checkable
class DistanceModel(Protocol):
    """A real-valued model that ranks by its own distances."""

    def distances(
        self, query_modality: str, Q: FloatArray, database_modality: str, X: FloatArray
    ) -> FloatArray:
        """Distances (q, m) from the rows of ``Q`` (q, d_g) to the rows of ``X`` (m, d_h)."""


class Method(Protocol):
    """A baseline: a frozen dataclass of its parameters, with ``fit``."""

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
            Code length l; for real-valued references the bits of the table row.
        seed : int
            The only source of randomness.
        labels : array (n, c), optional
            Multi-hot; used by methods with ``supervised`` set, ignored by the others.
        """


@dataclass(frozen=True)
class LinearCodes:
    """Linear encoder sign(X W_g - t_g), which most methods use.

    Parameters
    ----------
    projections : mapping of modality name to array (d_g, l)
    train_codes : array (n, l) of -1 and +1, or None
    thresholds : mapping of modality name to array (l,), optional
        Default: zero.
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
    """Linear codes whose common training codes are the signs of the summed projections.

    For methods that encode each modality separately and define no common code of a training row.
    """
    total = sum((features[name] @ W for name, W in projections.items()), start=np.zeros(1))
    return LinearCodes(projections, train_codes=signs(np.asarray(total)))


def two_modalities(features: Features) -> tuple[str, str]:
    """Names of the two modalities, in the mapping's order.

    Raises
    ------
    ValueError
        There are not exactly two modalities, or their row counts differ.
    """
    if len(features) != 2:
        raise ValueError(
            f"this method needs exactly 2 modalities, got {len(features)} ({list(features)}). "
            "Pass a pair."
        )
    first, second = features
    rows = (features[first].shape[0], features[second].shape[0])
    if rows[0] != rows[1]:
        raise ValueError(
            f"training rows must be paired, got {rows[0]} of {first!r} and {rows[1]} of "
            f"{second!r}. Pass the rows that both modalities have."
        )
    return first, second
