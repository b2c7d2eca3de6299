"""Binary codes as ±1 arrays and as packed bits: signs, random codes, Hamming distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.sampling import hash_words
from srch_dist.kernels.types import Codes, Packed


def random_codes(seed: int, rows: NDArray[np.int64], bits: int) -> Codes:
    """Draw uniform ±1 codes. The code of a row depends on the seed and the row number alone.

    Parameters
    ----------
    seed : see `hash_rows`.
    rows : (n,) row numbers.
    bits : bits per code, a multiple of 8.

    Returns
    -------
    Codes (n, bits) int8, -1 or 1.
    """
    words = hash_words(seed, rows, -(-bits // 64))
    packed = words.astype("<u8").view(np.uint8).reshape(len(rows), -1)[:, : bits // 8]
    return unpack_codes(packed)


def sign_codes(values: NDArray[np.floating]) -> Codes:
    """Compute the signs of ``values`` as ±1 int8, with sign(0) = +1 (Eq. 17)."""
    # This is five times faster than np.where, whose branches are unpredictable.
    return (values >= 0).view(np.int8) * np.int8(2) - np.int8(1)


def pack_codes(codes: Codes) -> Packed:
    """Pack ±1 codes (n, bits) to (n, bits / 8) uint8: value j is bit j % 8 of byte j // 8."""
    return np.packbits(codes > 0, axis=1, bitorder="little")


def unpack_codes(packed: Packed) -> Codes:
    """Unpack (n, bits / 8) uint8 to ±1 codes (n, bits) int8: the inverse of `pack_codes`."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.int8) * np.int8(2) - np.int8(
        1
    )


def hamming_distances(queries: Packed, database: Packed) -> NDArray[np.int64]:
    """Compute Hamming distances between packed codes, as (bits - b'c) / 2 for ±1 codes b, c.

    Products of ±1 values are exact in float32. Here such a product is faster than counting bits.

    Parameters
    ----------
    queries, database : (q, bits / 8) and (n, bits / 8) packed codes.

    Returns
    -------
    Distances (q, n) int64.
    """
    bits = queries.shape[1] * 8
    left = unpack_codes(queries).astype(np.float32)
    right = unpack_codes(database).astype(np.float32)
    agreement = left @ right.T
    distances: NDArray[np.int64] = ((bits - agreement) * 0.5).astype(np.int64)
    return distances
