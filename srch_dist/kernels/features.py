"""Features of one block: validity, normalisation, sums and products in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.types import Array

GramMatrices = dict[tuple[str, str], NDArray[np.float64]]

# Rows per tile. The float32 product of a tile is added to a float64 sum, which keeps the rounding
# error small. The conversion costs a few per cent of the product.
TILE_ROWS = 1024
# A centred row counts as zero if its length is below this share of ‖row‖ + ‖mean‖.
_ZERO_LENGTH = 1e-10


# Name of the values that `invalid_rows` finds, for messages.
INVALID_VALUES = "NaN, Inf or a value of 1e150 or more"
# The square of a larger value overflows in float64, and with the square the length of the row.
_TOO_LARGE = 1e150


def invalid_rows(block: Array) -> NDArray[np.int64]:
    """Return the ascending positions of the rows of ``block`` (n, d) with `INVALID_VALUES`."""
    if not np.issubdtype(block.dtype, np.floating):
        return np.empty(0, dtype=np.int64)
    # A comparison with NaN is False. Only float64 has finite values that are too large.
    valid = np.abs(block) < _TOO_LARGE if block.dtype.itemsize >= 8 else np.isfinite(block)
    return np.flatnonzero(~valid.all(axis=1)).astype(np.int64)


def column_sums(block: Array) -> NDArray[np.float64]:
    """Sum the columns of a block in twice the precision of float64.

    `add_sums` adds the sums of all partitions. Every partitioning then gives the same float64 mean.
    A mean that differs in its last bit would change the order of rows at equal distance.

    Parameters
    ----------
    block : (n, d) features.

    Returns
    -------
    (2, d) float64: row 0 has the column sums, row 1 their rounding errors.
    """
    total = np.zeros((2, block.shape[1]))
    for start in range(0, len(block), TILE_ROWS):
        part = np.stack([block[start : start + TILE_ROWS].astype(np.float64)])
        pairs = np.concatenate([part, np.zeros_like(part)])
        while pairs.shape[1] > 1:
            half = pairs.shape[1] // 2
            rest = pairs[:, 2 * half :]
            pairs = np.concatenate([add_sums(pairs[:, :half], pairs[:, half : 2 * half]), rest], 1)
        total = add_sums(total, pairs[:, 0])
    return total


def add_sums(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add double-double numbers (2, …), each a float64 sum and its rounding error.

    Reference: T. Dekker, "A floating-point technique for extending the available precision",
    Numer. Math. 18, 1971.
    """
    high = left[0] + right[0]
    shifted = high - left[0]
    low = (left[0] - (high - shifted)) + (right[0] - shifted) + (left[1] + right[1])
    total = high + low
    return np.stack([total, low - (total - high)])


def normalise(
    block: Array, mean: NDArray[np.float64], center: bool, unit_norm: bool, dtype: np.dtype[Any]
) -> tuple[Array, NDArray[np.bool_]]:
    """Centre the rows of a block and scale them to unit length.

    Each row is computed alone, in float64, so the result does not depend on the block.

    Parameters
    ----------
    block : (n, d) features.
    mean : (d,) column means.
    center : subtract ``mean``.
    unit_norm : scale the rows to unit length.
    dtype : type of the result.

    Returns
    -------
    features : (n, d) normalised features.
    zero : (n,) bool, true for rows of length zero within rounding; their features are zero.
    """
    values = block.astype(np.float64)
    scale = np.sqrt(np.einsum("ij,ij->i", values, values))
    if center:
        values -= mean
        scale += np.sqrt(mean @ mean)
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    zero = lengths <= _ZERO_LENGTH * scale
    values[zero] = 0.0
    if unit_norm:
        values /= np.where(zero, 1.0, lengths)[:, None]
    return values.astype(dtype), zero


def product_sum(left: Array, right: Array) -> NDArray[np.float64]:
    """Compute the product of ``left``, transposed, and ``right``, tile by tile of 1,024 rows.

    Parameters
    ----------
    left, right : (n, d) and (n, l). The product of a tile has the dtype of ``left``. Products of
        tiles are added in float64.

    Returns
    -------
    Product (d, l) float64.
    """
    if left.dtype == np.float64:
        return left.T @ right.astype(np.float64)
    total = np.zeros((left.shape[1], right.shape[1]))
    for start in range(0, len(left), TILE_ROWS):
        rows = slice(start, start + TILE_ROWS)
        total += left[rows].T @ right[rows].astype(left.dtype)
    return total


def gram_matrices(blocks: Mapping[str, Array]) -> GramMatrices:
    """Compute the Gram matrices X_g X_h' of one block, for g = h and for g before h in order.

    Parameters
    ----------
    blocks : features (n, d_g) by modality. The order of the mapping orders the modalities.

    Returns
    -------
    Gram matrices (d_g, d_h) float64 by (g, h).
    """
    names = list(blocks)
    return {
        (g, h): product_sum(blocks[g], blocks[h])
        for position, g in enumerate(names)
        for h in names[position:]
    }
