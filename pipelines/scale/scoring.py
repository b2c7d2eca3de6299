"""Mean average precision of the reference's codes, by the counts that the engine uses."""

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
    """MAP over the whole ranking from scores (q, l) and (n, l) whose signs are the codes.

    Labels are a class a row or multi-hot; queries to which nothing is relevant are left out.
    """
    bits = queries.shape[1]
    wanted, found = pack_codes(sign_codes(queries)), pack_codes(sign_codes(database))
    items = np.zeros((len(wanted), bits + 1), dtype=np.int64)
    relevant = np.zeros_like(items)
    for start in range(0, len(found), _TILE):
        tile = slice(start, start + _TILE)
        distances = hamming_distances(wanted, found[tile])
        same = retrieval_metrics.relevance(query_labels, labels[tile])
        items += retrieval_metrics.distance_counts(distances, None, bits)
        relevant += retrieval_metrics.distance_counts(distances, same, bits)
    return float(np.nanmean(retrieval_metrics.average_precision(items, relevant)))
