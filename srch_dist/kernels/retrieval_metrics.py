"""Retrieval measures from counts at each Hamming distance, as expectations over tied orders.

``items`` and ``relevant`` are (q, l + 1): how many database rows, and how many relevant ones,
lie at each distance 0 … l from each query. Counts of several database blocks add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from srch_dist.kernels.types import Vector

Counts = NDArray[np.int64]


def distance_counts(distances: Counts, mask: NDArray[np.bool_] | None, bits: int) -> Counts:
    """Rows at each distance, (q, bits + 1), from distances (q, n); only those in ``mask``."""
    q = len(distances)
    keys = distances + np.arange(q)[:, None] * (bits + 1)
    chosen = keys.ravel() if mask is None else keys[mask]
    return np.bincount(chosen, minlength=q * (bits + 1)).reshape(q, bits + 1)


def relevance(query_labels: NDArray[Any], database_labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Pairs (q, n) that share a label; labels are multi-hot (rows, c) or class numbers (rows,)."""
    if query_labels.ndim == 1:
        same: NDArray[np.bool_] = query_labels[:, None] == database_labels[None, :]
        return same
    shared = (query_labels != 0).astype(np.float32) @ (database_labels != 0).astype(np.float32).T
    either: NDArray[np.bool_] = shared > 0
    return either


def average_precision(items: Counts, relevant: Counts, cutoff: int | None = None) -> Vector:
    """Expected average precision (q,), over the whole ranking or its first ``cutoff`` rows.

    In a tie block of N rows, R of them relevant, after p rows and c relevant ones, its first m
    places add (R/N) [(c + 1 - b(p + 1)) (H(p + m) - H(p)) + b m], b = (R - 1) / (N - 1).
    The sum is divided by the relevant rows, at most ``cutoff``; queries with none give NaN.
    """
    before = np.cumsum(items, axis=1) - items
    hits = np.cumsum(relevant, axis=1) - relevant
    taken = items if cutoff is None else np.clip(cutoff - before, 0, items)
    slope = np.where(items > 1, (relevant - 1) / np.maximum(items - 1, 1), 0.0)
    harmonic = digamma(before + taken + 1.0) - digamma(before + 1.0)
    gain = (hits + 1 - slope * (before + 1)) * harmonic + slope * taken
    total = np.sum(relevant / np.maximum(items, 1) * gain, axis=1)
    count = relevant.sum(axis=1)
    limit = count if cutoff is None else np.minimum(count, cutoff)
    none = np.full(len(total), np.nan)
    share: Vector = np.divide(total, limit, out=none, where=limit > 0)
    return np.minimum(share, 1.0)  # rounding may leave a perfect ranking a little above


def precision_at(items: Counts, relevant: Counts, cutoff: int) -> Vector:
    """Expected share of relevant rows among the first ``cutoff``, (q,)."""
    before = np.cumsum(items, axis=1) - items
    taken = np.clip(cutoff - before, 0, items)
    found = np.sum(relevant / np.maximum(items, 1) * taken, axis=1)
    return np.asarray(found / cutoff)


def precision_recall(items: Counts, relevant: Counts) -> tuple[Vector, Vector]:
    """Precision and recall (q, l + 1) among the rows within each Hamming radius 0 … l.

    Precision is NaN where nothing lies within the radius, recall where nothing is relevant.
    """
    within, hits = np.cumsum(items, axis=1), np.cumsum(relevant, axis=1)
    missing = np.full(items.shape, np.nan)
    precision = np.divide(hits, within, out=missing.copy(), where=within > 0)
    total = relevant.sum(axis=1, keepdims=True) + np.zeros_like(hits)
    return precision, np.divide(hits, total, out=missing, where=total > 0)


def partner_recall(closer: Counts, tied: Counts, cutoff: int) -> Vector:
    """Probability (q,) that the partner is among the first ``cutoff`` rows.

    ``closer`` (q,) rows are nearer than the partner; ``tied`` (q,) are as near, it included.
    """
    return np.clip((cutoff - closer) / tied, 0.0, 1.0)


def partner_rank(closer: Counts, tied: Counts) -> Vector:
    """Expected rank (q,) of the partner, counted from 1."""
    return closer + (tied + 1) / 2.0
