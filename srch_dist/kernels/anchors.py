"""Ridge regression on features and on Gaussian similarities to anchor rows, from sums over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from srch_dist.kernels.features import product_sum
from srch_dist.kernels.sizes import Sized

Array = NDArray[Any]
Matrix = NDArray[np.float64]

# Width of the Gaussian against the squared distance of an anchor to its 10th nearest anchor.
_NEIGHBOUR, _SHARPNESS = 10, 1.5


@dataclass(frozen=True)
class AnchorSums(Sized):
    """Sums over rows for similarities K (n, m), features X (n, d) and codes B (n, l).

    Attributes
    ----------
    features : (d,), sums of X. similarities : (m,), sums of K. codes : (l,), sums of B.
    cross : (d, m), X'K. gram : (m, m), K'K. targets : (m, l), K'B.
    """

    features: Matrix
    similarities: Matrix
    codes: Matrix
    cross: Matrix
    gram: Matrix
    targets: Matrix

    def __add__(self, other: AnchorSums) -> AnchorSums:
        return AnchorSums(
            self.features + other.features,
            self.similarities + other.similarities,
            self.codes + other.codes,
            self.cross + other.cross,
            self.gram + other.gram,
            self.targets + other.targets,
        )


def anchor_bandwidth(anchors: Array) -> float:
    """δ²: median over anchors (m, d) of the squared distance to the 10th nearest other one.

    Zeros are left out; 1 where nothing is left.
    """
    distances = np.sort(_squared_distances(anchors, anchors), axis=1)
    kth = distances[:, min(_NEIGHBOUR, len(anchors) - 1)]
    kept = kth[kth > 1e-12]
    return float(np.median(kept)) if len(kept) else 1.0


def similarities(features: Array, anchors: Array, bandwidth: float) -> Array:
    """exp(-1.5 ‖x - a‖² / δ²), (n, m), of features (n, d) and anchors (m, d)."""
    near: Array = np.exp(-_SHARPNESS / bandwidth * _squared_distances(features, anchors))
    return near


def anchor_sums(features: Array, anchors: Array, bandwidth: float, codes: Array) -> AnchorSums:
    """The sums of one partition: features (n, d), anchors (m, d), codes (n, l)."""
    near = similarities(features, anchors, bandwidth)
    return AnchorSums(
        features.sum(axis=0, dtype=np.float64),
        near.sum(axis=0, dtype=np.float64),
        codes.sum(axis=0, dtype=np.float64),
        product_sum(features, near),
        product_sum(near, near),
        product_sum(near, codes),
    )


def anchor_encoder(
    sums: AnchorSums, gram: Matrix, cross_covariance: Matrix, n: int, ridge: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Ridge regression of B on F = [X, s (K - mean K)], s giving both parts one trace.

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
    scale = np.sqrt(float(np.trace(gram)) / trace) if trace > 1e-12 * n else 0.0
    cross = scale * (sums.cross - np.outer(sums.features, mean))
    near = scale**2 * (sums.gram - n * np.outer(mean, mean))
    whole = np.block([[gram, cross], [cross.T, near]])
    target = np.concatenate([cross_covariance, scale * (sums.targets - np.outer(mean, sums.codes))])
    penalty = ridge * float(np.trace(whole)) / len(whole)
    solution = np.zeros_like(target)
    if penalty > 0.0:  # otherwise the features are zero everywhere
        regular = whole + penalty * np.eye(len(whole))
        solution = scipy.linalg.solve(regular, target, assume_a="pos")
    linear, on_anchors = solution[: len(gram)].T, scale * solution[len(gram) :].T
    return np.ascontiguousarray(linear), np.ascontiguousarray(on_anchors), -on_anchors @ mean


def _squared_distances(left: Array, right: Array) -> Array:
    norms = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
    distances: Array = np.maximum(norms - 2.0 * (left @ right.T), 0.0)
    return distances
