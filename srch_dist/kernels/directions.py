"""Codes spread from the leading directions of the encoded rows.

What both encoders can tell of a code lies in few directions. A frame that iterative quantisation
learns (Gong et al., TPAMI 2013) spreads these over any number of bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.bits import sign_codes
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.sizes import Sized

Array = NDArray[Any]
Matrix = NDArray[np.float64]

_ROUNDS = 50
# Directions with less variance than this share of what goes into the mix are rounding.
_LEAST_VARIANCE = 1e-10
# How firmly a frame keeps to the one before where the sample leaves it open.
_LEAST_STEP = 1e-3


@dataclass(frozen=True)
class ScoreSums(Sized):
    """Sums over rows of the scores of all modalities side by side, (n, G l).

    Attributes
    ----------
    scores : (G l,). products : (G l, G l).
    """

    scores: Matrix
    products: Matrix

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(self.scores + other.scores, self.products + other.products)


@dataclass(frozen=True)
class Directions(Sized):
    """V = Σ_g T_g mix_g + offset, (n, r), from scores T_g (n, l).

    Attributes
    ----------
    mix : (l, r) by modality. offset : (r,).
    basis : (l, r), the directions themselves, orthonormal.
    share : of the variance of the mixed scores that they keep, 0 to 1.
    """

    mix: Mapping[str, Matrix]
    offset: Matrix
    basis: Matrix
    share: float

    def mixed(self, scores: Mapping[str, Array]) -> Matrix:
        """V (n, r) from scores (n, l) by modality."""
        total: Matrix = sum((scores[g] @ part for g, part in self.mix.items()), self.offset)
        return total

    def spread(self, frame: Matrix) -> Directions:
        """The same with V R, (n, bits), in the place of V, for a frame R (r, bits)."""
        mix = {g: part @ frame for g, part in self.mix.items()}
        return replace(self, mix=mix, offset=self.offset @ frame)


def leading_directions(
    sums: ScoreSums, n: int, weights: Mapping[str, float], count: int
) -> Directions:
    """At most ``count`` principal directions of Σ_g w_g T_g / rms(T_g), centred over n rows."""
    modalities = len(weights)
    bits = len(sums.scores) // modalities
    products = sums.products.reshape(modalities, bits, modalities, bits) / n
    means = sums.scores.reshape(modalities, bits) / n
    energy = np.einsum("gigi->g", products) / bits
    rms = np.sqrt(energy)
    trust = np.array(list(weights.values()))
    scale = np.divide(trust, rms, out=np.zeros(modalities), where=rms > 0)
    mean = scale @ means
    covariance = np.einsum("g,gihj,h->ij", scale, products, scale) - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    floor = _LEAST_VARIANCE * float(np.sum(trust[rms > 0] ** 2))
    kept = np.flatnonzero(values[-count:] > floor)
    basis = vectors[:, -count:][:, kept]
    total = float(np.maximum(values, 0.0).sum())
    share = float(values[-count:][kept].sum()) / total if total > 0 else 0.0
    mix = {g: factor * basis for g, factor in zip(weights, scale, strict=True)}
    return Directions(mix, -mean @ basis, basis, share)


def spreading_frame(sample: Matrix, start: Matrix) -> Matrix:
    """The frame R (r, l) after 50 rounds of B = sign(V R), R = polar factor of V'B + ε R.

    Parameters
    ----------
    sample : V (m, r) of sampled rows. start : (r, l), what R begins from.

    With l > r the rows of R are orthonormal, so that ‖V R‖ = ‖V‖ and ‖B - V R‖ never rises.
    """
    frame = polar_factor(start)
    for _ in range(_ROUNDS):
        product = sample.T @ sign_codes(sample @ frame)
        # Directions that the sample does not show keep their place instead of rounding's.
        weight = _LEAST_STEP * np.linalg.norm(product) / np.sqrt(len(product))
        frame = polar_factor(product + weight * frame)
    return frame
