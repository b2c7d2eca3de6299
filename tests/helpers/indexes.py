"""Small faiss indexes of random codes."""

from __future__ import annotations

import faiss
import numpy as np

ROWS, BITS = 300, 40


def write_index(path, lists: int = 0, rows: int = ROWS):
    """Write an index of random codes, flat or with ``lists``; return the path."""
    codes = np.random.default_rng(0).integers(0, 256, (rows, BITS // 8), dtype=np.uint8)
    index = quantiser = faiss.IndexBinaryFlat(BITS)
    if lists:
        index = faiss.IndexBinaryIVF(quantiser, BITS, lists)
        index.cp.min_points_per_centroid = 1
        index.train(np.random.default_rng(1).integers(0, 256, (999, BITS // 8), dtype=np.uint8))
    index.add(codes)
    faiss.write_index_binary(index, str(path))
    return path
