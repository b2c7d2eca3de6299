"""PCA-ITQ: final codes from the principal directions of encoder scores and the loop's codes.

The encoders can predict few directions of the loop's codes. The information from the graph is
partly in other directions. The principal directions are therefore computed from scores and codes
together, with equal weight. These class directions are smooth over the graph and lose what
distinguishes a pair from its neighbours. Pair directions, which are canonical directions of the
features, are placed beside them. A frame learned by iterative quantisation (Y. Gong et al., IEEE
TPAMI 35(12), 2013) spreads all over any number of bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.packed_codes import sign_codes
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix

# Alternations of iterative quantisation.
_ROUNDS = 50
# Directions with a smaller share of the variance are rounding error.
_MIN_VARIANCE = 1e-10
# Relative difference below which two gains of `prefix_order` are equal.
_TIE = 1e-9
# ε of `spreading_frame`: weight of the previous frame. It decides directions without sampled rows.
_DAMPING = 1e-3


@dataclass(frozen=True)
class ScoreSums(Sized):
    """Sums over the rows of [T_1, …, T_G, B, P]; ``+`` adds the sums of disjoint rows.

    T_g are the encoder scores (n, l) of modality g, B the loop's codes (n, l), and P the pair
    directions (n, k). With s = (G + 1) l + k:

    Attributes
    ----------
    scores : (s,) column sums.
    products : (s, s) Gram matrix.
    """

    scores: Matrix
    products: Matrix

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(self.scores + other.scores, self.products + other.products)


@dataclass(frozen=True)
class Directions(Sized):
    """Map to V = Σ_g T_g mix_g + B mix_codes + P mix_pairs + offset (n, r).

    T_g and B (n, l) are scores and codes, P (n, k) the pair directions. V has one column for each
    of r directions.

    Attributes
    ----------
    mix : (l, r) weights of the scores, by modality.
    mix_codes : (l, r) weights of the codes.
    mix_pairs : (k, r) weights of the pair directions.
    offset : (r,) constant term.
    basis : (l + k, r) the principal directions of class and pair parts, orthonormal.
    share : share of the variance that the directions keep, 0 to 1.
    """

    mix: Mapping[str, Matrix]
    mix_codes: Matrix
    mix_pairs: Matrix
    offset: Matrix
    basis: Matrix
    share: float

    def mixed(self, scores: Mapping[str, Array], codes: Array, pairs: Array) -> Matrix:
        """Compute V (n, r) from scores (n, l) by modality, codes (n, l) and pairs (n, k)."""
        start = codes @ self.mix_codes + pairs @ self.mix_pairs + self.offset
        total: Matrix = sum((scores[g] @ part for g, part in self.mix.items()), start)
        return total

    def spread(self, frame: Matrix) -> Directions:
        """Return the map to VR (n, bits), for a frame R (r, bits)."""
        return replace(
            self,
            mix={g: part @ frame for g, part in self.mix.items()},
            mix_codes=self.mix_codes @ frame,
            mix_pairs=self.mix_pairs @ frame,
            offset=self.offset @ frame,
        )


def leading_directions(
    sums: ScoreSums, n: int, weights: Mapping[str, float], bits: int, pair: float, count: int
) -> Directions:
    """Compute the leading principal directions of [(1 - pair) C, pair P].

    The class part is C ∝ T / ‖T‖ + B / ‖B‖, with a mean squared row length of 1.
    T = Σ_g w_g T_g / rms(T_g) are the mixed scores, and B are the loop's codes. All parts are
    centred: their means over the rows are subtracted.

    Parameters
    ----------
    sums : sums over all n rows.
    weights : w_g by modality, in the order of ``sums``.
    bits : l, the bits of scores and codes.
    pair : weight of the pair directions, 0 to 1.
    count : maximum number of directions.

    Returns
    -------
    `Directions` with r ≤ ``count``. If T is constant, r is 0, because no encoder then
    distinguishes rows.
    """
    parts = (len(weights) + 1) * bits
    means = sums.scores / n
    covariance = sums.products / n - np.outer(means, means)
    shares = _class_shares(sums.products[:parts, :parts] / n, covariance[:parts, :parts], weights)
    if not shares.any():
        count = 0
    pairs = len(means) - parts
    to_parts = np.zeros((len(means), bits + pairs))
    to_parts[:parts, :bits] = (1 - pair) * np.kron(shares[:, None], np.eye(bits))
    to_parts[parts:, bits:] = pair * np.eye(pairs)
    values, vectors = np.linalg.eigh(to_parts.T @ covariance @ to_parts)
    largest = slice(max(len(values) - count, 0), None)
    if count == 0:
        largest = slice(len(values), None)
    total = float(np.maximum(values, 0.0).sum())
    kept = np.flatnonzero(values[largest] > _MIN_VARIANCE * total)
    basis = vectors[:, largest][:, kept]
    share = float(values[largest][kept].sum()) / total if total > 0 else 0.0
    mix = to_parts @ basis
    *scores, codes = mix[:parts].reshape(len(weights) + 1, bits, len(kept))
    named = dict(zip(weights, scores, strict=True))
    return Directions(named, codes, mix[parts:], -means @ mix, basis, share)


def _class_shares(products: Matrix, covariance: Matrix, weights: Mapping[str, float]) -> Matrix:
    """Compute the factors (G + 1,) of T_1, …, T_G and B in the class part C.

    ``products`` and ``covariance`` of [T_1, …, T_G, B] are means over the rows. All factors are 0
    if T is constant.
    """
    sources = len(weights) + 1
    bits = len(products) // sources
    squares = products.reshape(sources, bits, sources, bits)
    spread = covariance.reshape(sources, bits, sources, bits)
    rms = np.sqrt(np.einsum("gigi->g", squares)[:-1] / bits)
    trust = np.array(list(weights.values()))
    scale = np.divide(trust, rms, out=np.zeros(len(trust)), where=rms > 0)
    score_variance = float(np.einsum("g,gihi,h->", scale, spread[:-1, :, :-1], scale))
    code_variance = float(np.einsum("ii->", spread[-1, :, -1]))
    if score_variance <= _MIN_VARIANCE * bits * float(np.sum(trust[rms > 0] ** 2)):
        return np.zeros(sources)
    code_scale = 1.0 / np.sqrt(code_variance) if code_variance > 0 else 0.0
    shares = np.append(scale / np.sqrt(score_variance), code_scale)
    variance = float(np.einsum("g,gihi,h->", shares, spread, shares))
    scaled: Matrix = shares / np.sqrt(variance)
    return scaled


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


def prefix_order(codes: Matrix, values: Matrix) -> NDArray[np.int64]:
    """Order bits so that the first bits of a code are a good shorter code.

    Each next bit is the one that explains most of V beside the bits before it: forward selection by
    orthogonal least squares (S. Chen, C. Cowan and P. Grant, IEEE Trans. Neural Networks 2, 1991).
    Bits that depend linearly on those before come last, in their own order.

    Parameters
    ----------
    codes : (m, l) ±1 bits of the m sampled rows.
    values : (m, r) V at the same rows.

    Returns
    -------
    Permutation (l,) of the bits.
    """
    centred = codes - codes.mean(axis=0)
    gram, target = centred.T @ centred, centred.T @ values
    least = _MIN_VARIANCE * len(codes)
    order: list[int] = []
    open_bits = np.ones(len(gram), dtype=np.bool_)
    for _ in range(len(gram)):
        rest = np.diag(gram).copy()
        usable = open_bits & (rest > least)
        if not usable.any():
            break
        gains = np.full(len(gram), -1.0)
        explained = np.einsum("ij,ij->i", target, target)
        np.divide(explained, rest, out=gains, where=usable)
        # Bits that split the rows alike have equal gains but for rounding: choose the first.
        chosen = int(np.argmax(gains >= gains.max() * (1 - _TIE)))
        order.append(chosen)
        open_bits[chosen] = False
        pivot = gram[:, chosen] / np.sqrt(rest[chosen])
        target = target - np.outer(pivot, target[chosen] / np.sqrt(rest[chosen]))
        gram = gram - np.outer(pivot, pivot)
    return np.array([*order, *np.flatnonzero(open_bits)], dtype=np.int64)
