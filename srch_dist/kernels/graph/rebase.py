"""Re-weight edges (Eq. 15) and sum the terms of Eqs. 4 and 7."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import _ALL, GraphBlock
from srch_dist.kernels.graph.neighbours import candidate_distances
from srch_dist.kernels.types import Array, Matrix

# Edges of a run of `distance_runs`.
DISTANCE_EDGES = 1 << 18


# Edges whose terms of the objective are worked out at once.
TERM_EDGES = 1 << 20


# Bins of the histogram of S.
WEIGHT_BINS = 20


def distance_runs(block: GraphBlock, own: Array, halo: Array) -> Iterator[tuple[slice, Matrix]]:
    """‖z_i - z_j‖² of a run of edges at a time.

    ``own`` is the embedding of the block (rows, l), ``halo`` (h, l) that of its halo.
    """
    # Otherwise `np.take` would copy all rows at every call.
    own = np.require(own, requirements=["C", "ALIGNED"])
    both = np.concatenate([own, halo]) if len(halo) else own
    count = len(block.columns)
    for start in range(0, count, DISTANCE_EDGES):
        part = slice(start, min(start + DISTANCE_EDGES, count))
        owners = block.owners_of(part.start, part.stop)
        yield part, candidate_distances(own, owners, both, block.columns[part])


def semantic_weights(distances: Matrix, alpha: float, lam: float) -> Matrix:
    """S = α / (α + λ‖z_i - z_j‖²) (Eq. 15), written so that α = ∞ gives S = 1."""
    semantic = (lam / alpha) * distances
    semantic += 1.0
    return np.divide(1.0, semantic, out=semantic)


def weight_counts(block: GraphBlock, semantic: Matrix, part: slice = _ALL) -> NDArray[np.int64]:
    """How many S (edges,) of a run of edges lie in each of `WEIGHT_BINS` equal bins of [0, 1].

    Each undirected edge counts once; S = 1 is in the last bin.
    """
    once = semantic[block.counted_once[part]]
    bins = np.minimum((once * WEIGHT_BINS).astype(np.int64), WEIGHT_BINS - 1)
    return np.bincount(bins, minlength=WEIGHT_BINS)


def edge_terms(
    block: GraphBlock, distances: Matrix, semantic: Matrix, part: slice = _ALL
) -> tuple[float, float]:
    """Σ C S²‖z_i - z_j‖² (Eq. 4) and Σ C (S - 1)² (Eq. 7), each undirected edge once.

    ``distances`` and ``semantic`` are (edges,), or of a run of edges that ``part`` names.
    """
    once = block.counted_once[part]
    weights, s, d = block.weights[part][once], semantic[once], distances[once]
    return float(np.sum(weights * s**2 * d)), float(np.sum(weights * (s - 1.0) ** 2))
