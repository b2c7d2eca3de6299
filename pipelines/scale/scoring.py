"""Mean average precision of the reference's codes, with the kernels of srch_dist."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import hamming_distances, pack_codes, sign_codes

Array = NDArray[Any]

_TILE = 4096


def mean_average_precision(
    queries: Array, database: Array, query_labels: Array, labels: Array
) -> float:
    """MAP over the whole ranking.

    Queries without a relevant row do not count.

    Parameters
    ----------
    queries, database : array (q, l), (n, l)
        Scores; their signs are the codes.
    query_labels, labels : array (q,) or (q, c), (n,) or (n, c)
        Class per row, or multi-hot.
    """
    bits = queries.shape[1]
    query_codes, codes = pack_codes(sign_codes(queries)), pack_codes(sign_codes(database))
    items = np.zeros((len(query_codes), bits + 1), dtype=np.int64)
    relevant = np.zeros_like(items)
    for start in range(0, len(codes), _TILE):
        tile = slice(start, start + _TILE)
        distances = hamming_distances(query_codes, codes[tile])
        matches = retrieval_metrics.relevance(query_labels, labels[tile])
        items += retrieval_metrics.distance_counts(distances, None, bits)
        relevant += retrieval_metrics.distance_counts(distances, matches, bits)
    return float(np.nanmean(retrieval_metrics.average_precision(items, relevant)))
