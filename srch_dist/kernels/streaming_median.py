"""Streaming median: count values in fixed bins, then again in finer bins inside the median's bin.

Counts are additive, and fixed bins give the same median for any partitioning. A t-digest would be
approximate, and would depend on the order of merging.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Smallest and largest limit of the first bins, as powers of 2, beyond the range of float32.
_OCTAVES = (-160, 130)
_PER_OCTAVE = 8
_FINE_BINS = 4096

FULL_RANGE = (0.0, np.inf)


@dataclass(frozen=True)
class Counts:
    """Weighted counts of non-negative values in bins; ``+`` adds counts of the same bins.

    Attributes
    ----------
    edges : (bins + 1,) bin limits. Bin i holds the values v with edges[i] < v ≤ edges[i + 1].
    counts : (bins,) int64 weight of the values in each bin.
    below : weight of the values ≤ edges[0], including zeros.
    smallest : smallest positive value; inf if there is none.
    total : weight of all values.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    below: int
    smallest: float
    total: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.edges,
            self.counts + other.counts,
            self.below + other.below,
            min(self.smallest, other.smallest),
            self.total + other.total,
        )


def count_values(
    values: NDArray[np.float64], weights: NDArray[np.int64], limits: tuple[float, float]
) -> Counts:
    """Count values in the bins of ``limits``.

    Parameters
    ----------
    values : (m,) non-negative values.
    weights : (m,) non-negative integers.
    limits : `FULL_RANGE` for eight logarithmic bins per octave, or the result of `median_limits`
        for 4,096 bins of equal width.
    """
    edges = _bin_edges(limits)
    # With the limits of `median_limits`, most values are outside.
    inside = (values > edges[0]) & (values <= edges[-1])
    position = np.searchsorted(edges, values[inside], side="left") - 1
    counts = np.bincount(position, weights=weights[inside], minlength=len(edges) - 1)
    smallest = float(np.min(values, where=values > 0, initial=np.inf))
    below = int(weights[values <= edges[0]].sum())
    return Counts(edges, np.rint(counts).astype(np.int64), below, smallest, int(weights.sum()))


def median_limits(counts: Counts) -> tuple[float, float]:
    """Return the limits of the lower median's bin; (0, 0) if the median is 0 or undefined."""
    if counts.total == 0:
        return 0.0, 0.0
    rank = (counts.total + 1) // 2
    if rank <= counts.below:
        return 0.0, 0.0
    index = int(np.searchsorted(np.cumsum(counts.counts), rank - counts.below))
    return float(counts.edges[index]), float(counts.edges[index + 1])


def _bin_edges(limits: tuple[float, float]) -> NDArray[np.float64]:
    """Make the bin limits: logarithmic for `FULL_RANGE`, otherwise of equal width."""
    if limits == FULL_RANGE:
        low, high = _OCTAVES
        octaves = np.arange(low * _PER_OCTAVE, high * _PER_OCTAVE + 1) / _PER_OCTAVE
        return np.concatenate([[0.0], np.exp2(octaves)])
    return np.linspace(limits[0], limits[1], _FINE_BINS + 1)
