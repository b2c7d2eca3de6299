"""Statistics of binary codes: bit balance, correlations, effective bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Matrix, Packed

# Codes with fewer `effective_bits` count as collapsed: almost all rows have the same code.
COLLAPSED = 1.1


def effective_bits(code_gram: Matrix, bit_sums: Matrix, n: int) -> float:
    """Estimate how many independent balanced bits hold the same information as the l bits.

    The result is at most l. It is 0 if all bits are constant.

    With C the covariance of the bits, the value is (tr C)² / tr(C²) · tr(C) / l: the participation
    ratio of the eigenvalues of C, times the mean variance of a bit.

    Parameters
    ----------
    code_gram, bit_sums : see `CodeMoments`.
    n : number of rows.
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
    """Sums over the rows of ±1 codes B; ``+`` adds the sums of disjoint rows.

    Attributes
    ----------
    code_gram : (l, l) Gram matrix BB'.
    bit_sums : (l,) sum of each bit.
    """

    code_gram: Matrix
    bit_sums: Matrix

    def __add__(self, other: CodeMoments) -> CodeMoments:
        return CodeMoments(self.code_gram + other.code_gram, self.bit_sums + other.bit_sums)


def code_moments(packed: Packed) -> CodeMoments:
    """Compute the Gram matrix and bit sums of packed codes (n, l / 8)."""
    bits = packed.shape[1] * 8
    gram, bit_sums = np.zeros((bits, bits)), np.zeros(bits)
    for start in range(0, len(packed), TILE_ROWS):
        # Sums over a tile are small integers, which float32 represents exactly.
        signs = unpack_codes(packed[start : start + TILE_ROWS]).astype(np.float32)
        gram += signs.T @ signs
        bit_sums += signs.sum(axis=0)
    return CodeMoments(gram, bit_sums)


def bit_correlations(code_gram: Matrix, bit_sums: Matrix, n: int) -> Matrix:
    """Compute Pearson correlations (l, l) of the bits over n rows; 0 for a constant bit.

    Parameters
    ----------
    code_gram, bit_sums : see `CodeMoments`.
    """
    means = bit_sums / n
    covariance = code_gram / n - np.outer(means, means)
    scales = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    products = np.outer(scales, scales)
    correlations: Matrix = np.divide(
        covariance, products, out=np.zeros_like(covariance), where=products > 0
    )
    return correlations


def correlation_summary(code_gram: Matrix, bit_sums: Matrix, n: int) -> dict[str, float]:
    """Compute the "mean" and the largest ("worst") absolute correlation over all pairs of bits.

    Parameters
    ----------
    code_gram, bit_sums : see `CodeMoments`.
    """
    magnitudes = np.abs(bit_correlations(code_gram, bit_sums, n))
    others = magnitudes[~np.eye(len(magnitudes), dtype=bool)]
    return {"mean": float(others.mean()), "worst": float(others.max())}
