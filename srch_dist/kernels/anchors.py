"""Ridge regression of codes on features and on similarities to anchors, from sums over rows.

Anchors are sampled training rows; m is their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import scipy.linalg

from srch_dist.kernels.rbf import TILE, similarities, squared_distances
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix

# The bandwidth is computed from each anchor's distance to its neighbour of this rank.
_NEIGHBOUR = 10
# Scale of similarities: their trace / the features' trace. The ridge then penalises them less.
_SIMILARITY_TRACE = 3.0


@dataclass(frozen=True)
class AnchorSums(Sized):
    """Sums over rows of features X (n, d) and similarities K (n, m) to the m anchors.

    ``+`` adds the sums of disjoint rows.

    Attributes
    ----------
    features : (d,) column sums of X.
    similarities : (m,) column sums of K.
    cross : (d, m) product of X transposed and K.
    gram : (m, m) Gram matrix of K.
    """

    features: Matrix
    similarities: Matrix
    cross: Matrix
    gram: Matrix

    def __add__(self, other: AnchorSums) -> AnchorSums:
        return AnchorSums(
            self.features + other.features,
            self.similarities + other.similarities,
            self.cross + other.cross,
            self.gram + other.gram,
        )


@dataclass(frozen=True)
class AnchorTargets(Sized):
    """Sums over rows of codes B (n, l) and similarities K (n, m) to the m anchors.

    ``+`` adds the sums of disjoint rows.

    Attributes
    ----------
    codes : (l,) column sums of B.
    similarities : (m, l) product of K transposed and B.
    """

    codes: Matrix
    similarities: Matrix

    def __add__(self, other: AnchorTargets) -> AnchorTargets:
        return AnchorTargets(self.codes + other.codes, self.similarities + other.similarities)


def anchor_bandwidth(anchors: Array) -> float:
    """Compute the bandwidth δ²: the median squared distance of anchors to their 10th neighbour.

    Zero distances do not count. If all these distances are zero, the bandwidth is 1.

    Parameters
    ----------
    anchors : (m, d) anchor rows.
    """
    distances = np.sort(squared_distances(anchors, anchors), axis=1)
    kth = distances[:, min(_NEIGHBOUR, len(anchors) - 1)]
    kept = kth[kth > 1e-12]
    return float(np.median(kept)) if len(kept) else 1.0


def anchor_tiles(
    features: Array, anchors: Array, bandwidth: float
) -> Iterator[tuple[slice, Array, Array]]:
    """Compute similarities to anchors, `TILE` rows at a time.

    Yields
    ------
    A slice of t rows, their features (t, d), and their similarities (t, m) to the m anchors.
    """
    for start in range(0, len(features), TILE):
        rows = slice(start, min(start + TILE, len(features)))
        tile = features[rows]
        yield rows, tile, similarities(tile, anchors, bandwidth)


def tile_sums(tile: Array, near: Array) -> AnchorSums:
    """Compute the `AnchorSums` of one tile of t rows.

    Parameters
    ----------
    tile : (t, d) features.
    near : (t, m) similarities of the rows to the m anchors.
    """
    return AnchorSums(
        tile.sum(axis=0, dtype=np.float64),
        near.sum(axis=0, dtype=np.float64),
        (tile.T @ near).astype(np.float64),
        # NumPy calls syrk for an array with itself, which computes one triangle.
        (near.T @ near).astype(np.float64),
    )


def tile_targets(near: Array, codes: Array) -> AnchorTargets:
    """Compute the `AnchorTargets` of one tile, from similarities (t, m) and ±1 codes (t, l)."""
    product = near.T @ codes.astype(near.dtype)
    return AnchorTargets(codes.sum(axis=0, dtype=np.float64), product.astype(np.float64))


def anchor_sums(features: Array, anchors: Array, bandwidth: float) -> AnchorSums:
    """Compute the `AnchorSums` of some rows, tile by tile in the dtype of the features.

    Parameters
    ----------
    features, anchors : (n, d) and (m, d), of one dtype.
    bandwidth : δ²; see `anchor_bandwidth`.
    """
    tiles = anchor_tiles(features, anchors, bandwidth)
    return reduce(add, (tile_sums(tile, near) for _, tile, near in tiles))


def anchor_targets(
    features: Array, anchors: Array, bandwidth: float, codes: Array
) -> AnchorTargets:
    """Compute the `AnchorTargets` of some rows with the ±1 ``codes`` (n, l).

    `anchor_sums` describes the other parameters.
    """
    tiles = anchor_tiles(features, anchors, bandwidth)
    return reduce(add, (tile_targets(near, codes[rows]) for rows, _, near in tiles))


def anchor_encoder(
    sums: AnchorSums,
    targets: AnchorTargets,
    gram: Matrix,
    cross_covariance: Matrix,
    n: int,
    ridge: float,
) -> tuple[Matrix, Matrix, Matrix]:
    """Fit codes B (n, l) by ridge regression on F = [X, s (K - mean K)].

    X (n, d) are the features, and K (n, m) the similarities to anchors. With the factor s, the
    Gram matrix of s (K - mean K) has three times the trace of the Gram matrix of X. The fitted
    encoder is sign(linear x + on_anchors k + offset), for a row x of X and its row k of K.

    Parameters
    ----------
    sums, targets : sums over all training rows, with centred features.
    gram : (d, d) Gram matrix of X.
    cross_covariance : (d, l) product of X transposed and B.
    n : number of training rows.
    ridge : penalty in units of the mean eigenvalue of the Gram matrix of F.

    Returns
    -------
    linear : (l, d) weights of the features.
    on_anchors : (l, m) weights of the similarities.
    offset : (l,) constant term.
    """
    mean = sums.similarities / n
    trace = float(np.trace(sums.gram)) - n * float(mean @ mean)
    target_trace = _SIMILARITY_TRACE * float(np.trace(gram))
    scale = np.sqrt(target_trace / trace) if trace > 1e-12 * n else 0.0
    cross = scale * (sums.cross - np.outer(sums.features, mean))
    near = scale**2 * (sums.gram - n * np.outer(mean, mean))
    joint = np.block([[gram, cross], [cross.T, near]])
    near_target = scale * (targets.similarities - np.outer(mean, targets.codes))
    target = np.concatenate([cross_covariance, near_target])
    penalty = ridge * float(np.trace(joint)) / len(joint)
    solution = np.zeros_like(target)
    if penalty > 0.0:  # zero only if all features are zero
        regularised = joint + penalty * np.eye(len(joint))
        solution = scipy.linalg.solve(regularised, target, assume_a="pos")
    linear, on_anchors = solution[: len(gram)].T, scale * solution[len(gram) :].T
    return np.ascontiguousarray(linear), np.ascontiguousarray(on_anchors), -on_anchors @ mean
