"""Codes spread from the leading directions of what the loop learned and the encoders tell of it.

What both encoders can tell of a code lies in few directions; what the graph gave the codes is not
all among them. So the directions are those of encoded rows and codes together, in equal parts. A
frame that iterative quantisation learns (Gong et al., TPAMI 2013) spreads them over any number of
bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from srch_dist.kernels.packed_codes import sign_codes
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix

_ROUNDS = 50
# Less variance than this share of what goes into the mix is rounding.
_LEAST_VARIANCE = 1e-10
# How firmly a frame keeps to the one before where the sample leaves it open.
_LEAST_STEP = 1e-3


@dataclass(frozen=True)
class ScoreSums(Sized):
    """Sums over rows of the scores of all modalities and the loop's codes side by side.

    Attributes
    ----------
    scores : (G l + l,). products : (G l + l, G l + l).
    """

    scores: Matrix
    products: Matrix

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(self.scores + other.scores, self.products + other.products)


@dataclass(frozen=True)
class Directions(Sized):
    """V = Σ_g T_g mix_g + B mix_B + offset, (n, r), from scores T_g and codes B, all (n, l).

    Attributes
    ----------
    mix : (l, r) by modality. mix_codes : (l, r). offset : (r,).
    basis : (l, r), the directions themselves, orthonormal.
    share : of the variance of the mix that they keep, 0 to 1.
    """

    mix: Mapping[str, Matrix]
    mix_codes: Matrix
    offset: Matrix
    basis: Matrix
    share: float

    def mixed(self, scores: Mapping[str, Array], codes: Array) -> Matrix:
        """V (n, r) from scores (n, l) by modality and the loop's codes (n, l)."""
        start = codes @ self.mix_codes + self.offset
        total: Matrix = sum((scores[g] @ part for g, part in self.mix.items()), start)
        return total

    def spread(self, frame: Matrix) -> Directions:
        """The same with V R, (n, bits), in the place of V, for a frame R (r, bits)."""
        mix = {g: part @ frame for g, part in self.mix.items()}
        codes = self.mix_codes @ frame
        return replace(self, mix=mix, mix_codes=codes, offset=self.offset @ frame)


def leading_directions(
    sums: ScoreSums, n: int, weights: Mapping[str, float], count: int
) -> Directions:
    """At most ``count`` principal directions of T / ‖T‖ + B / ‖B‖, both centred over n rows.

    T = Σ_g w_g T_g / rms(T_g) are the mixed scores, B the loop's codes. There are no directions
    where T is the same for all rows: then no encoder can tell codes apart.
    """
    sources = len(weights) + 1
    bits = len(sums.scores) // sources
    products = sums.products.reshape(sources, bits, sources, bits) / n
    means = sums.scores.reshape(sources, bits) / n
    covariance = products - means[:, :, None, None] * means
    rms = np.sqrt(np.einsum("gigi->g", products)[:-1] / bits)
    trust = np.array(list(weights.values()))
    scale = np.divide(trust, rms, out=np.zeros(len(trust)), where=rms > 0)
    told = float(np.einsum("g,gihi,h->", scale, covariance[:-1, :, :-1], scale))
    learned = float(np.einsum("ii->", covariance[-1, :, -1]))
    if told <= _LEAST_VARIANCE * bits * float(np.sum(trust[rms > 0] ** 2)):
        count, told = 0, 1.0
    shares = np.append(scale / np.sqrt(told), 1.0 / np.sqrt(learned) if learned > 0 else 0.0)
    values, vectors = np.linalg.eigh(np.einsum("g,gihj,h->ij", shares, covariance, shares))
    largest = slice(len(values) - count, None)
    kept = np.flatnonzero(values[largest] > _LEAST_VARIANCE)
    basis = vectors[:, largest][:, kept]
    total = float(np.maximum(values, 0.0).sum())
    share = float(values[largest][kept].sum()) / total if total > 0 else 0.0
    *mix, codes = (factor * basis for factor in shares)
    named = dict(zip(weights, mix, strict=True))
    return Directions(named, codes, -(shares @ means) @ basis, basis, share)


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
