"""Binary codes: ±1 arrays, their packed form, random starts and Hamming distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.sampling import hash_words
from srch_dist.kernels.types import Codes, Packed


def random_codes(seed: int, rows: NDArray[np.int64], bits: int) -> Codes:
    """Draw uniform ±1 codes (n, bits) from the seed and the global row numbers ``rows`` (n,)."""
    words = hash_words(seed, rows, -(-bits // 64))
    packed = words.astype("<u8").view(np.uint8).reshape(len(rows), -1)[:, : bits // 8]
    return unpack_codes(packed)


def sign_codes(values: NDArray[np.floating]) -> Codes:
    """Signs as ±1 int8, with sign(0) = +1."""
    # Arithmetic, since np.where branches on what cannot be foretold: a fifth of its time.
    return (values >= 0).view(np.int8) * np.int8(2) - np.int8(1)


def pack_codes(codes: Codes) -> Packed:
    """Pack ±1 codes (n, bits) to (n, bits / 8) uint8; bit j is bit j % 8 of byte j // 8."""
    return np.packbits(codes > 0, axis=1, bitorder="little")


def unpack_codes(packed: Packed) -> Codes:
    """Undo `pack_codes`: (n, bits / 8) uint8 to ±1 int8 (n, bits)."""
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.int8) * np.int8(2) - np.int8(
        1
    )


def hamming_distances(queries: Packed, database: Packed) -> NDArray[np.int64]:
    """Hamming distances (q, n) between packed codes (q, bits / 8) and (n, bits / 8).

    A matrix product of ±1 values is exact in float32 and faster than counting bits here.
    """
    bits = queries.shape[1] * 8
    left = unpack_codes(queries).astype(np.float32)
    right = unpack_codes(database).astype(np.float32)
    agreement = left @ right.T
    distances: NDArray[np.int64] = ((bits - agreement) * 0.5).astype(np.int64)
    return distances
