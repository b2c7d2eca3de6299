"""Compute the terms of the objective (Eq. 9) from sums, without a pass over the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.projections import projection_energy
from srch_dist.kernels.types import Matrix


@dataclass(frozen=True)
class Objective:
    """Terms of Eq. 9, weighted (Eq. 8) and summed over the modalities.

    Attributes
    ----------
    quantisation : Σ_g ‖W_g X_g - B‖², the first term of Eq. 3.
    reconstruction : Σ_g ‖X_g - W_g' B‖², the second term of Eq. 3.
    semantic : λ Σ_g Σ C_g S²‖z_i - z_j‖², Eq. 4.
    sparsity : α Σ_g Σ C_g (S - 1)², Eq. 7.
    embedding : β Σ_g ½‖Z - B‖², Eq. 5.
    """

    quantisation: float
    reconstruction: float
    semantic: float
    sparsity: float
    embedding: float

    @property
    def total(self) -> float:
        """Objective (Eq. 9), the sum of the terms."""
        return sum(self.terms().values())

    def terms(self) -> dict[str, float]:
        """Return the terms of the objective by name, for the history."""
        return asdict(self)


def auto_encoding_terms(
    projections: Mapping[str, Matrix],
    grams: GramMatrices,
    cross_covariance: Mapping[str, Matrix],
    code_gram: Matrix,
    n: int,
) -> tuple[float, float]:
    """Compute Σ_g ‖W_g X_g - B‖² and Σ_g ‖X_g - W_g' B‖² (Eq. 3) from sums, without X.

    ‖WX - B‖² = ‖WX‖² - 2 tr(W XB') + nl, and ‖X - W'B‖² = ‖X‖² - 2 tr(W XB') + tr(WW' BB').

    Parameters
    ----------
    projections : (l, d_g) W_g by modality.
    grams : (d_g, d_g) Gram matrix of X_g by (g, g).
    cross_covariance : (d_g, l) X_g B' by modality.
    code_gram : (l, l) BB'.
    n : number of rows.
    """
    quantisation = reconstruction = 0.0
    for g, w in projections.items():
        agreement = float(np.einsum("ij,ji->", w, cross_covariance[g]))
        gram = grams[g, g]
        quantisation += projection_energy(w, gram) - 2 * agreement + n * len(w)
        reconstruction += float(np.trace(gram)) - 2 * agreement
        reconstruction += float(np.einsum("ij,ij->", w @ w.T, code_gram))
    return quantisation, reconstruction
