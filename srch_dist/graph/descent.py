"""Approximate neighbours with pynndescent: one index over all rows of a modality."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from srch_dist.graph.exact import write_neighbours
from srch_dist.kernels.neighbours import (
    Neighbours,
    candidate_distances,
    keep_nearest,
    merge_exact,
)
from srch_dist.storage import arrays
from srch_dist.storage.run import RunDirectory

# Neighbours beyond k that the index keeps: they raise recall@k (on icons151k, where most titles
# have duplicates, from .954 at 5 to .968 at 10) and leave a
# choice among ties, which float64 distances and row numbers then settle.
_SPARE = 10


def search_whole(
    run: RunDirectory, modality: str, starts: tuple[int, ...], k: int, seed: int
) -> None:
    """Find and write the k nearest rows of every row, in one process.

    The index is compiled on first use in a process, which takes some 20 s.
    """
    features = arrays.read_rows(run.features(modality))
    found = _descend(features, k, seed)
    short = np.flatnonzero((found.rows < 0).any(axis=1))
    if len(short):
        # NN-descent marks a neighbour that it could not find; these rows are searched exactly.
        empty = Neighbours.empty(len(short), k)
        exact = merge_exact(empty, features[short], short, features, 0)
        found.rows[short], found.distances[short] = exact.rows, exact.distances
    for start, stop in pairwise(starts):
        part = Neighbours(found.distances[start:stop], found.rows[start:stop])
        write_neighbours(run, modality, start, part)


def _descend(features: NDArray[np.floating], k: int, seed: int) -> Neighbours:
    """The k nearest by NN-descent, with float64 distances; -1 where fewer were found."""
    import pynndescent  # importing it starts Numba, which only this search needs

    n = len(features)
    with warnings.catch_warnings():
        # It warns of rows with missing neighbours, which the caller completes.
        warnings.simplefilter("ignore")
        index = pynndescent.NNDescent(
            features.astype(np.float32),
            metric="euclidean",
            n_neighbors=min(n, k + 1 + _SPARE),
            random_state=np.random.RandomState(seed % 2**32),
            n_jobs=1,  # two threads of Numba's default layer abort the process
            compressed=True,
        )
    rows = index.neighbor_graph[0].astype(np.int64)
    owners, columns = np.nonzero((rows >= 0) & (rows != np.arange(n)[:, None]))
    candidates = rows[owners, columns]
    distances = candidate_distances(features, owners, features, candidates)
    return keep_nearest(owners, distances, candidates, n, k)
