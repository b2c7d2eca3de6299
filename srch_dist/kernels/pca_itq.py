"""PCA-ITQ: final codes from the principal directions of encoder scores and the loop's codes.

The encoders can predict few directions of the loop's codes. Part of the graph's information is in
directions that the encoders cannot predict. The principal directions are therefore computed from
scores and codes together, with equal weight. A matrix, the frame, spreads the principal directions
over any number of bits. The frame is learned by iterative quantisation (Y. Gong et al., IEEE TPAMI
35(12), 2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from srch_dist.kernels.packed_codes import sign_codes
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix

# Alternations of iterative quantisation.
_ROUNDS = 50
# Directions with a smaller share of the variance are rounding error.
_MIN_VARIANCE = 1e-10
# ε of `spreading_frame`: weight of the previous frame. It decides directions without sampled rows.
_DAMPING = 1e-3


@dataclass(frozen=True)
class ScoreSums(Sized):
    """Sums over the rows of [T_1, …, T_G, B]; ``+`` adds the sums of disjoint rows.

    T_g are the encoder scores (n, l) of modality g, and B the loop's codes (n, l).

    Attributes
    ----------
    scores : ((G + 1) l,) column sums.
    products : ((G + 1) l, (G + 1) l) Gram matrix.
    """

    scores: Matrix
    products: Matrix

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(self.scores + other.scores, self.products + other.products)


@dataclass(frozen=True)
class Directions(Sized):
    """Map from scores T_g and codes B (n, l) to V = Σ_g T_g mix_g + B mix_codes + offset (n, r).

    V has one column for each of r directions.

    Attributes
    ----------
    mix : (l, r) weights of the scores, by modality.
    mix_codes : (l, r) weights of the codes.
    offset : (r,) constant term.
    basis : (l, r) the principal directions, orthonormal.
    share : share of the variance that the directions keep, 0 to 1.
    """

    mix: Mapping[str, Matrix]
    mix_codes: Matrix
    offset: Matrix
    basis: Matrix
    share: float

    def mixed(self, scores: Mapping[str, Array], codes: Array) -> Matrix:
        """Compute V (n, r) from scores (n, l) by modality and the loop's codes (n, l)."""
        start = codes @ self.mix_codes + self.offset
        total: Matrix = sum((scores[g] @ part for g, part in self.mix.items()), start)
        return total

    def spread(self, frame: Matrix) -> Directions:
        """Return the map to VR (n, bits); the frame R (r, bits) spreads V over the bits."""
        mix = {g: part @ frame for g, part in self.mix.items()}
        codes = self.mix_codes @ frame
        return replace(self, mix=mix, mix_codes=codes, offset=self.offset @ frame)


def leading_directions(
    sums: ScoreSums, n: int, weights: Mapping[str, float], count: int
) -> Directions:
    """Compute the leading principal directions of T / ‖T‖ + B / ‖B‖, with T and B centred.

    T = Σ_g w_g T_g / rms(T_g) are the mixed scores, and B are the loop's codes. Centring
    subtracts the means over the rows.

    Parameters
    ----------
    sums : sums over all n rows.
    weights : w_g by modality, in the order of ``sums``.
    count : maximum number of directions.

    Returns
    -------
    `Directions` with r ≤ ``count``. If T is constant, r is 0, because no encoder then
    distinguishes rows.
    """
    sources = len(weights) + 1
    bits = len(sums.scores) // sources
    products = sums.products.reshape(sources, bits, sources, bits) / n
    means = sums.scores.reshape(sources, bits) / n
    covariance = products - means[:, :, None, None] * means
    rms = np.sqrt(np.einsum("gigi->g", products)[:-1] / bits)
    trust = np.array(list(weights.values()))
    scale = np.divide(trust, rms, out=np.zeros(len(trust)), where=rms > 0)
    score_variance = float(np.einsum("g,gihi,h->", scale, covariance[:-1, :, :-1], scale))
    code_variance = float(np.einsum("ii->", covariance[-1, :, -1]))
    if score_variance <= _MIN_VARIANCE * bits * float(np.sum(trust[rms > 0] ** 2)):
        count, score_variance = 0, 1.0
    code_scale = 1.0 / np.sqrt(code_variance) if code_variance > 0 else 0.0
    shares = np.append(scale / np.sqrt(score_variance), code_scale)
    values, vectors = np.linalg.eigh(np.einsum("g,gihj,h->ij", shares, covariance, shares))
    largest = slice(len(values) - count, None)
    kept = np.flatnonzero(values[largest] > _MIN_VARIANCE)
    basis = vectors[:, largest][:, kept]
    total = float(np.maximum(values, 0.0).sum())
    share = float(values[largest][kept].sum()) / total if total > 0 else 0.0
    *mix, codes = (factor * basis for factor in shares)
    named = dict(zip(weights, mix, strict=True))
    return Directions(named, codes, -(shares @ means) @ basis, basis, share)


def spreading_frame(sample: Matrix, start: Matrix) -> Matrix:
    """Learn the frame R (r, bits), which spreads r directions over the bits.

    The method is 50 alternations of B = sign(VR) and R = polar factor of V'B + εR. With bits ≥ r,
    the rows of R are orthonormal. Then ‖VR‖ = ‖V‖, and no alternation increases the quantisation
    error ‖B - VR‖.

    Parameters
    ----------
    sample : (m, r) V at m sampled rows.
    start : (r, bits) matrix whose polar factor is the first R.

    Returns
    -------
    R (r, bits).
    """
    frame = polar_factor(start)
    for _ in range(_ROUNDS):
        product = sample.T @ sign_codes(sample @ frame)
        # Without the previous frame, rounding would decide directions without sampled rows.
        weight = _DAMPING * np.linalg.norm(product) / np.sqrt(len(product))
        frame = polar_factor(product + weight * frame)
    return frame
