"""Seeded hashes of row numbers: samples and random bits that do not depend on the partitioning."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.types import IntArray

# Increment of splitmix64: 2⁶⁴ / golden ratio, odd.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)


class Stream(IntEnum):
    """Independent random streams of one seed, one for each purpose.

    A stream is used as ``seed ^ stream``. Results depend on the values below: another value of a
    stream draws another sample.
    """

    # Without streams, all samples of one seed would be the same rows. Recall would be measured on
    # the rows that trained the index, and the final frame would start from the first codes.
    HELD_OUT_QUERIES = 0x0B5E
    CLUSTER_SAMPLE = 0xC1A55
    GRAPH_RECALL = 0x5EC411
    TRAINING_SAMPLE = 0xA9C4
    FINAL_FRAME = 0xF4A3E
    PAIR_FRAME = 0xF4A3F
    BASELINE_ROTATION = 0xCCA
    EXAMPLE_QUERIES = 0xE8A3
    EXAMPLE_DATABASE = 0xE8A4
    INDEX_SAMPLE = 0x1DF5
    FLOAT_QUERIES = 0xF10A


def hash_rows(seed: int, rows: IntArray) -> NDArray[np.uint64]:
    """Hash row numbers with a seed (splitmix64).

    The hash of a row depends on the seed and the row number alone. NumPy's Philox draws a sequence,
    and cannot be evaluated at an array of row numbers.

    Parameters
    ----------
    seed : integer, 0 … 2⁶⁴ - 1; usually the run's seed and a stream, ``seed ^ Stream.…``.
    rows : (n,) row numbers.

    Returns
    -------
    Hashes (n,) uint64. For one seed, different row numbers have different hashes.

    References
    ----------
    G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    start = _mix(np.array([seed], dtype=np.uint64) + _INCREMENT)
    return _mix(start + rows.astype(np.uint64) * _INCREMENT)


def hash_words(seed: int, rows: IntArray, count: int) -> NDArray[np.uint64]:
    """Draw ``count`` random words for each row: the hash of the row is the state of splitmix64.

    Parameters
    ----------
    seed : see `hash_rows`.
    rows : (n,) row numbers.

    Returns
    -------
    Random words (n, count) uint64.
    """
    offsets = np.arange(1, count + 1, dtype=np.uint64) * _INCREMENT
    return _mix(hash_rows(seed, rows)[:, None] + offsets)


def smallest_hashes(rows: IntArray, count: int, seed: int, stream: Stream) -> IntArray:
    """Draw a simple random sample: positions of the ``count`` rows with the smallest hashes.

    The sample depends on the set ``rows``, the seed and the stream, not on the order of ``rows``.

    Parameters
    ----------
    rows : (n,) row numbers. If a number occurs twice, its lower position is drawn first.
    count : size of the sample; n or more selects every row.
    seed, stream : see `Stream`.

    Returns
    -------
    Positions in ``rows`` (min(count, n),) int64, ascending.
    """
    if count >= len(rows):
        return np.arange(len(rows))
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    hashes = hash_rows(seed ^ stream, rows)
    largest = np.partition(hashes, count - 1)[count - 1]
    # np.partition takes linear time. A stable sort takes longer and gives the same rows.
    below = np.flatnonzero(hashes < largest)
    tied = np.flatnonzero(hashes == largest)[: count - len(below)]
    return np.sort(np.concatenate([below, tied]))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of ``values`` with the finaliser of splitmix64, a bijection."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
