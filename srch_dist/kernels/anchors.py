"""Ridge regression on features and on Gaussian similarities to anchor rows, from sums over rows."""

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

# Anchors that the width of the Gaussian is taken from: the distance to the 10th nearest other one.
_NEIGHBOUR = 10
# Trace of the similarities against that of the features: nearness may say more than direction.
_SIMILARITY_TRACE = 3.0


@dataclass(frozen=True)
class AnchorSums(Sized):
    """Sums over rows for similarities K (n, m) and features X (n, d).

    Attributes
    ----------
    features : (d,), sums of X. similarities : (m,), sums of K.
    cross : (d, m), X'K. gram : (m, m), K'K.
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
    """Sums over rows for codes B (n, l): ``codes`` (l,), of B, and ``similarities`` (m, l), K'B."""

    codes: Matrix
    similarities: Matrix

    def __add__(self, other: AnchorTargets) -> AnchorTargets:
        return AnchorTargets(self.codes + other.codes, self.similarities + other.similarities)


def anchor_bandwidth(anchors: Array) -> float:
    """δ²: median over anchors (m, d) of the squared distance to the 10th nearest other one.

    Zeros are left out; 1 where nothing is left.
    """
    distances = np.sort(squared_distances(anchors, anchors), axis=1)
    kth = distances[:, min(_NEIGHBOUR, len(anchors) - 1)]
    kept = kth[kth > 1e-12]
    return float(np.median(kept)) if len(kept) else 1.0


def anchor_tiles(
    features: Array, anchors: Array, bandwidth: float
) -> Iterator[tuple[slice, Array, Array]]:
    """Rows, their features (t, d) and similarities (t, m), `TILE` rows at a time."""
    for start in range(0, len(features), TILE):
        rows = slice(start, min(start + TILE, len(features)))
        tile = features[rows]
        yield rows, tile, similarities(tile, anchors, bandwidth)


def tile_sums(tile: Array, near: Array) -> AnchorSums:
    """The sums of a tile's features (t, d) and similarities (t, m)."""
    return AnchorSums(
        tile.sum(axis=0, dtype=np.float64),
        near.sum(axis=0, dtype=np.float64),
        (tile.T @ near).astype(np.float64),
        # Of one array with itself BLAS works out half.
        (near.T @ near).astype(np.float64),
    )


def tile_targets(near: Array, codes: Array) -> AnchorTargets:
    """The sums of a tile's similarities (t, m) and codes (t, l)."""
    product = near.T @ codes.astype(near.dtype)
    return AnchorTargets(codes.sum(axis=0, dtype=np.float64), product.astype(np.float64))


def anchor_sums(features: Array, anchors: Array, bandwidth: float) -> AnchorSums:
    """The sums of features (n, d) and their similarities to anchors (m, d).

    Products of a tile are in the precision of the features, which is the anchors' too.
    """
    tiles = anchor_tiles(features, anchors, bandwidth)
    return reduce(add, (tile_sums(tile, near) for _, tile, near in tiles))


def anchor_targets(
    features: Array, anchors: Array, bandwidth: float, codes: Array
) -> AnchorTargets:
    """The sums for codes (n, l); see `anchor_sums`."""
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
    """Ridge regression of B on F = [X, s (K - mean K)], s giving K three times the trace of X.

    Parameters
    ----------
    gram : (d, d), X'X. cross_covariance : (d, l), X'B.
    ridge : penalty in units of the mean eigenvalue of F'F.

    Returns
    -------
    The encoder on features (l, d), that on similarities (l, m), and the offset (l,).
    """
    mean = sums.similarities / n
    trace = float(np.trace(sums.gram)) - n * float(mean @ mean)
    wanted = _SIMILARITY_TRACE * float(np.trace(gram))
    scale = np.sqrt(wanted / trace) if trace > 1e-12 * n else 0.0
    cross = scale * (sums.cross - np.outer(sums.features, mean))
    near = scale**2 * (sums.gram - n * np.outer(mean, mean))
    whole = np.block([[gram, cross], [cross.T, near]])
    nearness = scale * (targets.similarities - np.outer(mean, targets.codes))
    target = np.concatenate([cross_covariance, nearness])
    penalty = ridge * float(np.trace(whole)) / len(whole)
    solution = np.zeros_like(target)
    if penalty > 0.0:  # otherwise the features are zero everywhere
        regular = whole + penalty * np.eye(len(whole))
        solution = scipy.linalg.solve(regular, target, assume_a="pos")
    linear, on_anchors = solution[: len(gram)].T, scale * solution[len(gram) :].T
    return np.ascontiguousarray(linear), np.ascontiguousarray(on_anchors), -on_anchors @ mean
