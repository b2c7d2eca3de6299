"""A median that adds up over blocks: counts in fixed logarithmic bins, refined where it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_OCTAVES = (-160, 130)
_PER_OCTAVE = 8
_FINE_BINS = 4096

FULL_RANGE = (0.0, np.inf)


@dataclass(frozen=True)
class Counts:
    """Weighted counts of non-negative values, mergeable by addition.

    Attributes
    ----------
    edges : (bins + 1,) bin limits; a value v is in bin i where edges[i] < v ≤ edges[i + 1].
    counts : (bins,) int64; below : weight of values ≤ edges[0] (among them all zeros).
    smallest : smallest positive value seen; total : the weight of all values.
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
    """Count ``values`` (m,) with integer ``weights`` in the bins of ``limits``.

    `FULL_RANGE` takes logarithmic bins, eight an octave; any other pair is cut evenly.
    """
    edges = _bin_edges(limits)
    # Once the median is confined, most values lie outside, and need no bin.
    inside = (values > edges[0]) & (values <= edges[-1])
    position = np.searchsorted(edges, values[inside], side="left") - 1
    counts = np.bincount(position, weights=weights[inside], minlength=len(edges) - 1)
    smallest = float(np.min(values, where=values > 0, initial=np.inf))
    below = int(weights[values <= edges[0]].sum())
    return Counts(edges, np.rint(counts).astype(np.int64), below, smallest, int(weights.sum()))


def median_limits(counts: Counts) -> tuple[float, float]:
    """Limits of the bin that holds the lower median; (0, 0) where the median is zero."""
    if counts.total == 0:
        return 0.0, 0.0
    rank = (counts.total + 1) // 2
    if rank <= counts.below:
        return 0.0, 0.0
    index = int(np.searchsorted(np.cumsum(counts.counts), rank - counts.below))
    return float(counts.edges[index]), float(counts.edges[index + 1])


def _bin_edges(limits: tuple[float, float]) -> NDArray[np.float64]:
    """Bin limits: logarithmic beyond float32's range, or even between two numbers."""
    if limits == FULL_RANGE:
        low, high = _OCTAVES
        octaves = np.arange(low * _PER_OCTAVE, high * _PER_OCTAVE + 1) / _PER_OCTAVE
        return np.concatenate([[0.0], np.exp2(octaves)])
    return np.linspace(limits[0], limits[1], _FINE_BINS + 1)
