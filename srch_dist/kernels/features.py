"""Features of one block: validity, normalisation, and sums of products in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.types import Array

GramMatrices = dict[tuple[str, str], NDArray[np.float64]]

# A float32 product of this many rows is added to a float64 sum: the rounding of the sum then
# stays that of a short one, at a cost of a few per cent of the product.
TILE_ROWS = 1024
# A row whose centred length is below this share of what was subtracted is rounding, not signal.
_ZERO_LENGTH = 1e-10


def invalid_rows(block: Array) -> NDArray[np.int64]:
    """Positions (in the block) of rows of ``block`` (n, d) that hold a NaN or an Inf."""
    if not np.issubdtype(block.dtype, np.floating):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(~np.isfinite(block).all(axis=1)).astype(np.int64)


def column_sums(block: Array) -> NDArray[np.float64]:
    """Column sums of a block (n, d) as (2, d): a float64 sum and what its rounding left out.

    Sums of parts (see `add_sums`) then round to the same float64 mean for every partitioning; a
    mean that moved by one unit would tell apart rows that are equally far.
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
    """Add pairs (2, …) of a sum and its remainder without loss (Dekker, Numer. Math. 18, 1971)."""
    high = left[0] + right[0]
    shifted = high - left[0]
    low = (left[0] - (high - shifted)) + (right[0] - shifted) + (left[1] + right[1])
    total = high + low
    return np.stack([total, low - (total - high)])


def normalise(
    block: Array, mean: NDArray[np.float64], center: bool, unit_norm: bool, dtype: np.dtype[Any]
) -> tuple[Array, NDArray[np.bool_]]:
    """Centre a block (n, d) with ``mean`` (d,) and scale its rows to unit length.

    Returns the features (n, d) in ``dtype`` and which rows (n,) are zero; these stay zero.
    Each row is worked out on its own in float64, so the result does not depend on the block.
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
    """The product left' right (d, l) of two blocks (n, d) and (n, l), summed in float64."""
    if left.dtype == np.float64:
        return left.T @ right.astype(np.float64)
    total = np.zeros((left.shape[1], right.shape[1]))
    for start in range(0, len(left), TILE_ROWS):
        rows = slice(start, start + TILE_ROWS)
        total += left[rows].T @ right[rows].astype(left.dtype)
    return total


def gram_matrices(blocks: Mapping[str, Array]) -> GramMatrices:
    """X_g' X_h (d_g, d_h) of one block of rows for each pair of modalities g ≤ h (by order)."""
    names = list(blocks)
    return {
        (g, h): product_sum(blocks[g], blocks[h])
        for position, g in enumerate(names)
        for h in names[position:]
    }
