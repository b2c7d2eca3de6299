"""Retrieval measures from counts at each Hamming distance, averaged over the orders of ties.

Rows at one Hamming distance are tied. Each measure is an expectation over all orders of ties, as
in F. McSherry and M. Najork, "Computing information retrieval performance measures efficiently in
the presence of tied scores", ECIR 2008. The package does not use trec_eval or ir_measures, which
break ties by document identifier.

For each of q queries and each Hamming distance 0 … l, ``items`` has the number of database rows,
and ``relevant`` the number of relevant database rows. Both are (q, l + 1) int64. Counts of several
database blocks are added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from srch_dist.kernels.types import Vector

Counts = NDArray[np.int64]


def distance_counts(distances: Counts, mask: NDArray[np.bool_] | None, bits: int) -> Counts:
    """Count the database rows at each distance from each query.

    Parameters
    ----------
    distances : (q, n) Hamming distances.
    mask : (q, n) true for the rows to count; None counts all rows.
    bits : l, the largest distance.

    Returns
    -------
    Counts (q, bits + 1) int64: queries × Hamming distance 0 … bits.
    """
    q = len(distances)
    keys = distances + np.arange(q)[:, None] * (bits + 1)
    chosen = keys.ravel() if mask is None else keys[mask]
    return np.bincount(chosen, minlength=q * (bits + 1)).reshape(q, bits + 1)


def invalid_labels(labels: NDArray[Any]) -> tuple[NDArray[np.int64], str]:
    """Find rows with invalid labels: an invalid class (n,), or invalid multi-hot labels (n, c).

    Parameters
    ----------
    labels : class numbers or names (n,), or multi-hot labels (n, c) of c classes.

    Returns
    -------
    rows : ascending row numbers; empty if all labels are valid.
    problem : what is wrong with these rows, and what to do; empty if all labels are valid.
    """
    if labels.dtype.kind not in "iuf":
        return np.empty(0, dtype=np.int64), ""
    if labels.ndim == 1:
        finite = np.isfinite(labels)
        valid = finite & (labels >= 0) & (np.where(finite, labels, 0) % 1 == 0)
        problem = (
            "a class must be an integer of at least 0. Number the classes from 0. For rows without "
            "a class, save class names, where an empty text means no class, or multi-hot labels"
        )
    else:
        valid = ((labels == 0) | (labels == 1)).all(axis=tuple(range(1, labels.ndim)))
        values = labels[~valid]
        if np.isin(values, (-1, 0, 1)).all():
            remedy = 'Convert -1 to 0: labels = (labels > 0).astype("uint8")'
        elif (values % 1 == 0).all():
            remedy = "Save one column per class, or one class number per row, (n,)"
        else:
            remedy = 'Apply a threshold: labels = (labels >= 0.5).astype("uint8")'
        problem = f"multi-hot labels must be 0 or 1. {remedy}"
    rows = np.flatnonzero(~valid)
    return rows, problem if len(rows) else ""


def relevance(query_labels: NDArray[Any], database_labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the pairs of a query and a database row that share a label.

    A row without a label (an empty name, or only zeros) shares a label with no row.

    Parameters
    ----------
    query_labels, database_labels : classes (q,) and (n,), or multi-hot labels (q, c) and (n, c)
        of c classes. Only positive entries of multi-hot labels are labels.

    Returns
    -------
    (q, n) bool, true if the pair shares a label.
    """
    if query_labels.ndim == 1:
        same: NDArray[np.bool_] = query_labels[:, None] == database_labels[None, :]
        if query_labels.dtype.kind not in "iufb":
            same &= (query_labels != "")[:, None]
        return same
    shared = (query_labels > 0).astype(np.float32) @ (database_labels > 0).astype(np.float32).T
    relevant: NDArray[np.bool_] = shared > 0
    return relevant


def average_precision(items: Counts, relevant: Counts, cutoff: int | None = None) -> Vector:
    """Compute the expected average precision of each query (McSherry and Najork, 2008).

    A tie has N rows, of which R are relevant. Before the tie come p nearer rows, of which c are
    relevant. The first m ranks of the tie add (R/N) [(c + 1 - b(p + 1)) (H(p + m) - H(p)) + bm] to
    the sum of precisions, with b = (R - 1) / (N - 1) (0 for N = 1) and the harmonic numbers H.

    Parameters
    ----------
    items, relevant : (q, l + 1) for each query and each Hamming distance 0 … l, the number of
        database rows and the number of relevant database rows.
    cutoff : number of ranks to evaluate; None evaluates all ranks. The sum of precisions is divided
        by min(number of relevant rows, ``cutoff``).

    Returns
    -------
    Average precision (q,), 0 to 1; NaN for a query without relevant rows.
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
    undefined = np.full(len(total), np.nan)
    share: Vector = np.divide(total, limit, out=undefined, where=limit > 0)
    return np.minimum(share, 1.0)  # rounding may lift a perfect ranking above 1


def precision_at(items: Counts, relevant: Counts, cutoff: int) -> Vector:
    """Compute expected precision (q,): the share of relevant rows in the first ``cutoff`` ranks.

    `average_precision` describes ``items`` and ``relevant``.
    """
    before = np.cumsum(items, axis=1) - items
    taken = np.clip(cutoff - before, 0, items)
    hits = np.sum(relevant / np.maximum(items, 1) * taken, axis=1)
    return np.asarray(hits / cutoff)


def precision_recall(items: Counts, relevant: Counts) -> tuple[Vector, Vector]:
    """Compute precision and recall of the rows within each Hamming radius 0 … l.

    `average_precision` describes ``items`` and ``relevant``.

    Returns
    -------
    precision : (q, l + 1), queries × radius; NaN for a radius without rows.
    recall : (q, l + 1), queries × radius; NaN for a query without relevant rows.
    """
    within, hits = np.cumsum(items, axis=1), np.cumsum(relevant, axis=1)
    missing = np.full(items.shape, np.nan)
    precision = np.divide(hits, within, out=missing.copy(), where=within > 0)
    total = relevant.sum(axis=1, keepdims=True) + np.zeros_like(hits)
    return precision, np.divide(hits, total, out=missing, where=total > 0)


def partner_recall(closer: Counts, tied: Counts, cutoff: int) -> Vector:
    """Compute the probability that the rank of each query's partner is at most ``cutoff``.

    The partner is the same row in the other modality, such as the text of a query image.

    Parameters
    ----------
    closer : (q,) number of rows nearer than the partner.
    tied : (q,) number of rows at the partner's distance, including the partner.

    Returns
    -------
    Probability (q,), 0 to 1: the expected recall of the partner.
    """
    return np.clip((cutoff - closer) / tied, 0.0, 1.0)


def partner_rank(closer: Counts, tied: Counts) -> Vector:
    """Compute the expected rank (q,) of each query's partner, from 1; see `partner_recall`."""
    return closer + (tied + 1) / 2.0


def kept_share(items: Counts, distances: Counts, known: NDArray[np.bool_], cutoff: int) -> Vector:
    """Compute the expected share (q,) of given rows that are in the first ``cutoff`` ranks.

    Parameters
    ----------
    items : (q, l + 1) number of database rows at each distance.
    distances : (q, k) distances of the k given rows of each query, which are in the database.
    known : (q, k) false for entries to leave out; each query has at least one other.
    """
    index = np.arange(len(items))[:, None]
    tied = np.maximum(items[index, distances], 1)
    closer = (np.cumsum(items, axis=1) - items)[index, distances]
    inside = np.clip((cutoff - closer) / tied, 0.0, 1.0)
    share: Vector = np.where(known, inside, 0.0).sum(axis=1) / known.sum(axis=1)
    return share
