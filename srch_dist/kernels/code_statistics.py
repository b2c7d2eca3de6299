"""Moments of codes: bit balance, correlations, effective bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Matrix, Packed

# Codes worth fewer independent bits than this tell next to nothing apart.
COLLAPSED = 1.1


def effective_bits(code_gram: Matrix, bit_sums: Matrix, n: int) -> float:
    """How many independent balanced bits the codes are worth: 0 (constant) to l.

    The participation ratio of the covariance of the bits, times their mean variance.
    """
    means = bit_sums / n
    covariance = code_gram / n - np.outer(means, means)
    variance = float(np.trace(covariance))
    squares = float(np.einsum("ij,ij->", covariance, covariance))
    if squares <= 0.0 or variance <= 0.0:
        return 0.0
    return variance**2 / squares * variance / len(bit_sums)


@dataclass(frozen=True)
class CodeMoments(Sized):
    """Sums over rows of codes: ``code_gram`` (l, l) is B B', ``bit_sums`` (l,) sums of each bit."""

    code_gram: Matrix
    bit_sums: Matrix

    def __add__(self, other: CodeMoments) -> CodeMoments:
        return CodeMoments(self.code_gram + other.code_gram, self.bit_sums + other.bit_sums)


def code_moments(packed: Packed) -> CodeMoments:
    """The moments of packed codes (n, l / 8)."""
    bits = packed.shape[1] * 8
    gram, bit_sums = np.zeros((bits, bits)), np.zeros(bits)
    for start in range(0, len(packed), TILE_ROWS):
        # Sums of a tile are whole numbers that float32 holds.
        signs = unpack_codes(packed[start : start + TILE_ROWS]).astype(np.float32)
        gram += signs.T @ signs
        bit_sums += signs.sum(axis=0)
    return CodeMoments(gram, bit_sums)


def bit_correlations(code_gram: Matrix, bit_sums: Matrix, n: int) -> Matrix:
    """Pearson correlations (l, l) of the bits over n rows; 0 with a bit that never changes."""
    means = bit_sums / n
    covariance = code_gram / n - np.outer(means, means)
    scales = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    products = np.outer(scales, scales)
    found: Matrix = np.divide(
        covariance, products, out=np.zeros_like(covariance), where=products > 0
    )
    return found


def correlation_summary(code_gram: Matrix, bit_sums: Matrix, n: int) -> dict[str, float]:
    """Mean and largest |correlation| of two different bits; 0 where there is one bit alone."""
    found = np.abs(bit_correlations(code_gram, bit_sums, n))
    others = found[~np.eye(len(found), dtype=bool)]
    return {"mean": float(others.mean()), "worst": float(others.max())}
