"""S-step (graph rebase) on one block: edge lengths, weights S (Eq. 15), terms of Eqs. 4 and 7."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.graph.block import GraphBlock
from srch_dist.kernels.graph.neighbours import candidate_distances
from srch_dist.kernels.types import Array, Matrix

# Edges per step of `distance_runs`.
DISTANCE_EDGES = 1 << 18
# Number of edges whose objective terms are computed at once.
TERM_EDGES = 1 << 20
# Bins of the histogram of S.
WEIGHT_BINS = 20

_ALL_EDGES = slice(None)


def distance_runs(block: GraphBlock, own: Array, halo: Array) -> Iterator[tuple[slice, Matrix]]:
    """Compute squared edge lengths ‖z_i - z_j‖², `DISTANCE_EDGES` edges at a time.

    Parameters
    ----------
    own : (rows, l) embedding of the block's rows.
    halo : (h, l) embedding of the halo rows.

    Yields
    ------
    The edges as a slice, and their squared lengths (edges,) float64.
    """
    # Without this, `np.take` would copy the whole array on each call.
    own = np.require(own, requirements=["C", "ALIGNED"])
    embedding = np.concatenate([own, halo]) if len(halo) else own
    count = len(block.columns)
    for start in range(0, count, DISTANCE_EDGES):
        part = slice(start, min(start + DISTANCE_EDGES, count))
        owners = block.owners_of(part.start, part.stop)
        yield part, candidate_distances(own, owners, embedding, block.columns[part])


def semantic_weights(distances: Matrix, alpha: float, lam: float) -> Matrix:
    """Compute S = α / (α + λ‖z_i - z_j‖²) (Eq. 15), (edges,).

    The code computes 1 / (1 + (λ/α)‖z_i - z_j‖²), which also holds for α = ∞: S is then 1.

    Parameters
    ----------
    distances : (edges,) squared edge lengths.
    """
    semantic = (lam / alpha) * distances
    semantic += 1.0
    return np.divide(1.0, semantic, out=semantic)


def weight_counts(
    block: GraphBlock, semantic: Matrix, part: slice = _ALL_EDGES
) -> NDArray[np.int64]:
    """Compute the histogram of S over undirected edges, in equal bins of [0, 1].

    Parameters
    ----------
    semantic : (edges,) S of the edges ``part`` of the block.

    Returns
    -------
    Number of edges per bin (WEIGHT_BINS,) int64. S = 1 is in the last bin.
    """
    once = semantic[block.counted_once[part]]
    bins = np.minimum((once * WEIGHT_BINS).astype(np.int64), WEIGHT_BINS - 1)
    return np.bincount(bins, minlength=WEIGHT_BINS)


def edge_terms(
    block: GraphBlock, distances: Matrix, semantic: Matrix, part: slice = _ALL_EDGES
) -> tuple[float, float]:
    """Compute Σ C S²‖z_i - z_j‖² (Eq. 4) and Σ C (S - 1)² (Eq. 7) over undirected edges.

    Parameters
    ----------
    distances, semantic : (edges,) squared lengths and S of the edges ``part`` of the block.
    """
    once = block.counted_once[part]
    weights, s, d = block.weights[part][once], semantic[once], distances[once]
    return float(np.sum(weights * s**2 * d)), float(np.sum(weights * (s - 1.0) ** 2))
