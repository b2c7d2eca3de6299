"""Distances from real-valued queries to binary codes: Hamming distances with a weight per bit.

A query keeps the scores of its bits instead of their signs. Its distance to a code b is
Σ_j |q_j| [b_j ≠ sign q_j], where q are the scores, scaled and rounded to integers. It is a linear
function of the inner product of q and b, so both rank alike. A score estimates the mean of its bit,
so it is its own weight.

Integers make the distances exact: equal codes are tied, results do not depend on the order of
sums, and distances can be counted as Hamming distances are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.types import Array, Packed

# Largest distance up to this number of bits. Counts of 1024 queries at each distance are 16 MiB. At
# 64 bits, a weight then has about 5 bits.
_SPAN = 2047

QueryWeights = NDArray[np.int16]


def largest_distance(bits: int) -> int:
    """Return the largest possible distance to a code of ``bits`` bits."""
    return max(_SPAN, bits)


def query_weights(scores: Array) -> QueryWeights:
    """Scale scores and round them to integers q, so that Σ_j |q_j| ≤ `largest_distance`.

    Parameters
    ----------
    scores : (m, l) scores of the bits.

    Returns
    -------
    q (m, l) int16; zero for a query whose scores are all zero.
    """
    bits = scores.shape[1]
    sums = np.abs(scores).sum(axis=1, keepdims=True, dtype=np.float64)
    scale = largest_distance(bits) - bits / 2  # rounding adds up to 1/2 per bit
    scaled = np.divide(scores * scale, sums, out=np.zeros(scores.shape), where=sums > 0)
    rounded: QueryWeights = np.rint(scaled).astype(np.int16)
    return rounded


def weighted_distances(queries: QueryWeights, database: Packed) -> NDArray[np.int64]:
    """Compute the distances (q, n) int64 of weights (q, l) to packed codes (n, l / 8).

    Distances are 0 … Σ_j |q_j|. Products of these integers are exact in float32.
    """
    weights = queries.astype(np.float32)
    agreement = weights @ unpack_codes(database).astype(np.float32).T
    totals = np.abs(weights).sum(axis=1, keepdims=True)
    distances: NDArray[np.int64] = ((totals - agreement) * 0.5).astype(np.int64)
    return distances
