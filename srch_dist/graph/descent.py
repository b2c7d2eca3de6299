"""Approximate neighbours with pynndescent among rows that are in memory, and one index of all."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from srch_dist.graph.exact import write_neighbours
from srch_dist.kernels.neighbours import (
    Neighbours,
    candidate_distances,
    keep_nearest_columns,
    merge_exact,
)
from srch_dist.storage import arrays
from srch_dist.storage.run import RunDirectory

# Neighbours beyond k that one index of all rows keeps: they raise recall@k (on icons151k, where
# most titles have duplicates, from .954 at 5 to .968 at 10), and leave a choice among ties, which
# float64 distances and row numbers then settle.
_SPARE = 10


def search_whole(
    run: RunDirectory, modality: str, starts: tuple[int, ...], k: int, seed: int
) -> None:
    """Find and write the k nearest rows of every row, in one process.

    The index is compiled on first use in a process, which takes some 20 s.
    """
    features, numbers = arrays.read_rows(run.features(modality)), arrays.read_rows(run.order)
    found = descend(features, numbers, k, _SPARE, seed)
    for start, stop in pairwise(starts):
        part = Neighbours(found.distances[start:stop], found.rows[start:stop])
        write_neighbours(run, modality, start, part)


def descend(
    features: NDArray[np.floating], numbers: NDArray[np.int64], k: int, spare: int, seed: int
) -> Neighbours:
    """The k nearest of each of the rows ``features`` (n, d), numbered ``numbers`` (n,).

    By NN-descent with k + ``spare`` neighbours a row, then float64 distances; rows that it finds
    too few neighbours of are searched exactly. There are more than k rows.
    """
    found = _descend(features, numbers, k, spare, seed)
    short = np.flatnonzero((found.rows < 0).any(axis=1))
    if len(short):
        empty = Neighbours.empty(len(short), k)
        exact = merge_exact(empty, features[short], numbers[short], features, numbers)
        found.rows[short], found.distances[short] = exact.rows, exact.distances
    return found


def _descend(
    features: NDArray[np.floating], numbers: NDArray[np.int64], k: int, spare: int, seed: int
) -> Neighbours:
    """`descend` without the exact search; -1 where fewer than k were found."""
    import pynndescent  # importing it starts Numba, which only this search needs

    n = len(features)
    with warnings.catch_warnings():
        # It warns of rows with missing neighbours, which the caller completes.
        warnings.simplefilter("ignore")
        index = pynndescent.NNDescent(
            features.astype(np.float32, copy=False),
            metric="euclidean",
            n_neighbors=min(n, k + 1 + spare),
            random_state=np.random.RandomState(seed % 2**32),
            n_jobs=1,  # two threads of Numba's default layer abort the process
            compressed=True,
        )
    found = index.neighbor_graph[0]
    owners, columns = np.nonzero((found >= 0) & (found != np.arange(n)[:, None]))
    candidates = found[owners, columns]
    rows = np.full(found.shape, -1, dtype=np.int64)
    rows[owners, columns] = numbers[candidates]
    distances = np.full(found.shape, np.inf)
    distances[owners, columns] = candidate_distances(features, owners, features, candidates)
    return keep_nearest_columns(distances, rows, k)
