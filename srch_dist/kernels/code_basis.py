"""Leading directions of the codes: an orthonormal basis V in which the Z-step solves for Z.

Z = β (β I + λ H)⁻¹ B is linear in B. The embedding of the projected codes B V Vᵀ is therefore
Z V Vᵀ, and its coordinates Z V solve the system with the right-hand side B V.

Codes are ±1, and the values of V are multiples of a power of two. Every partial sum of a product
B V is then exact, so it does not depend on tiles, column groups or the BLAS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.types import Array, Matrix, Packed

# Bits of the significand of float32, in which sums of ±V must be exact.
_SIGNIFICAND = 24
# A direction counts if its variance is above this share of the mean variance of a bit.
_LEAST_VARIANCE = 1e-6
# Rows of codes that are unpacked at once.
_ROWS = 1 << 14


def first_basis(bits: int, columns: int) -> Matrix:
    """Make the basis of random codes, (bits, columns): cosines, which involve all bits alike."""
    angles = np.pi / bits * np.outer(np.arange(bits) + 0.5, np.arange(columns))
    lengths = np.where(np.arange(columns) > 0, np.sqrt(bits / 2), np.sqrt(bits))
    return _exact(np.cos(angles) / lengths)


def leading_basis(code_gram: Matrix, before: Matrix) -> Matrix:
    """Compute the basis V of the leading principal directions of the codes.

    Of all bases of this subspace, V is the nearest to the previous one. A solution in the previous
    basis is then a good initial solution. If the codes have fewer directions than V has columns,
    V Vᵀ is the projection to all of their directions.

    Parameters
    ----------
    code_gram : (l, l) BBᵀ.
    before : (l, r) the previous basis.

    Returns
    -------
    V (l, r).
    """
    variances, directions = np.linalg.eigh(code_gram)
    few = variances[-before.shape[1] :] > _LEAST_VARIANCE * np.mean(np.diag(code_gram))
    leading = directions[:, -before.shape[1] :][:, few]
    return _exact(leading @ polar_factor(leading.T @ before))


def code_coordinates(
    packed: Packed, basis: Matrix | None, columns: slice, dtype: np.dtype[np.floating]
) -> Array:
    """Compute columns of B V.

    Parameters
    ----------
    packed : (n, l / 8) packed codes B.
    basis : (l, r) V; None means the identity.
    columns : the columns of V.

    Returns
    -------
    (n, columns) array of ``dtype``.
    """
    wide = packed.shape[1] * 8 if basis is None else basis.shape[1]
    result = np.empty((len(packed), len(range(wide)[columns])), dtype=dtype)
    for start in range(0, len(packed), _ROWS):
        rows = slice(start, start + _ROWS)
        codes = unpack_codes(packed[rows])
        if basis is None:
            result[rows] = codes[:, columns]
        else:
            result[rows] = codes.astype(dtype) @ basis[:, columns].astype(dtype)
    return result


def _exact(basis: NDArray[np.float64]) -> Matrix:
    """Round V (l, r) so that float32 holds every sum of ±values of a column exactly.

    The values of a column have at most length 1, so such a sum is at most √l.
    """
    quantum = 2.0 ** (np.ceil(np.log2(len(basis)) / 2) + 1 - _SIGNIFICAND)
    rounded: Matrix = np.round(basis / quantum) * quantum
    return rounded
