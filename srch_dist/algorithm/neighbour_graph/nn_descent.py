"""Approximate neighbour search with NN-descent (pynndescent), on rows that fit in memory.

Reference: W. Dong, M. Charikar and K. Li, "Efficient k-nearest neighbor graph construction for
generic similarity measures", WWW 2011.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from srch_dist.algorithm.neighbour_graph.exact import write_neighbours
from srch_dist.kernels.graph.neighbours import (
    SPARE_WHOLE,
    Neighbours,
    candidate_distances,
    keep_nearest_columns,
    merge_exact,
)
from srch_dist.kernels.graph.principal import principal_subspace
from srch_dist.runtime.temporary import CACHED_MODULE, prepare_compiler_cache
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

Features = NDArray[np.floating]

# A process that imports pynndescent keeps its compiler and compiled code, about 430 MiB.
COMPILED = CACHED_MODULE
# Number of neighbours of a row that NN-descent compares with each other in one round.
_CANDIDATES = 35
# Share of the variance that the principal components keep. NN-descent works on the components if
# they are at most half of the dimensions; distances of candidates use all dimensions.
_VARIANCE = 0.9
# Rows of one block of the refinement.
_REFINED_ROWS = 1 << 13


def search_whole(
    run: RunDirectory, modality: str, starts: tuple[int, ...], k: int, seed: int
) -> None:
    """Find and write the k nearest neighbours of every row, in one process.

    The first search in a process spends about 20 s on compiling.
    """
    read = partial(arrays.read_rows, run.features(modality))
    found = descend(read, arrays.read_rows(run.order), k, SPARE_WHOLE, seed)
    for start, stop in pairwise(starts):
        part = Neighbours(found.distances[start:stop], found.rows[start:stop])
        write_neighbours(run, modality, start, part)


def descend(
    read: Callable[[], Features], numbers: NDArray[np.int64], k: int, spare: int, seed: int
) -> Neighbours:
    """Search the k nearest neighbours of every row among all other rows.

    NN-descent finds k + 1 + ``spare`` candidates in the leading principal components. The k
    nearest candidates, by float64 distance in all dimensions, are kept. Rows with fewer candidates
    are searched exactly.

    Parameters
    ----------
    read : returns the rows (n, d), n > k. It is called twice, so that rows and index are not in
        memory at the same time.
    numbers : (n,) row numbers. Of rows at equal distance, the smaller number comes first.
    spare : number of candidates per row beyond k and the row itself.
    """
    candidates = _candidates(read, k + 1 + spare, seed)
    features = read()
    found = _refine(features, numbers, candidates, k)
    short = np.flatnonzero((found.rows < 0).any(axis=1))
    if len(short):
        empty = Neighbours.empty(len(short), k)
        exact = merge_exact(empty, features[short], numbers[short], features, numbers)
        found.rows[short], found.distances[short] = exact.rows, exact.distances
    return found


def _candidates(read: Callable[[], Features], count: int, seed: int) -> NDArray[np.int32]:
    """Find the ``count`` approximately nearest rows of each of the n rows.

    Returns positions (n, count) among the rows that ``read`` returns. They include the row itself;
    -1 is a missing candidate.
    """
    prepare_compiler_cache(CACHED_MODULE)
    import pynndescent  # the import starts Numba, which no other search needs

    points = _reduced(read())
    with warnings.catch_warnings():
        # pynndescent warns about rows with missing neighbours; the caller searches these exactly.
        warnings.simplefilter("ignore")
        index = pynndescent.NNDescent(
            points,
            metric="euclidean",
            n_neighbors=min(len(points), count),
            max_candidates=_CANDIDATES,
            random_state=np.random.RandomState(seed % 2**32),
            n_jobs=1,  # two threads of Numba's default layer abort the process
            compressed=True,
        )
    found: NDArray[np.int32] = index.neighbor_graph[0]
    return found


def _reduced(features: Features) -> NDArray[np.float32]:
    """Project rows (n, d) on their leading principal components, if these are at most d / 2.

    Otherwise return the rows unprojected. The result is float32.
    """
    # With several threads, rounding depends on the number of threads.
    with threadpool_limits(1):
        subspace = principal_subspace(features, _VARIANCE)
        if 2 * subspace.shape[1] > features.shape[1]:
            return features.astype(np.float32, copy=False)
        projection = subspace.astype(np.float32)
        points = np.empty((len(features), projection.shape[1]), dtype=np.float32)
        for start in range(0, len(features), _REFINED_ROWS):
            part = slice(start, start + _REFINED_ROWS)
            points[part] = features[part].astype(np.float32, copy=False) @ projection
    return points


def _refine(
    features: Features, numbers: NDArray[np.int64], candidates: NDArray[Any], k: int
) -> Neighbours:
    """Select the k nearest of each row's candidates, by float64 distance in all dimensions.

    ``candidates`` (n, c) are c positions per row in ``features`` (n, d); -1 is no candidate. The
    result has row numbers; ``numbers`` (n,) is the row number of each position.
    """
    parts = []
    for start in range(0, len(features), _REFINED_ROWS):
        near = candidates[start : start + _REFINED_ROWS]
        own = np.arange(start, start + len(near))
        owners, columns = np.nonzero((near >= 0) & (near != own[:, None]))
        picked = near[owners, columns]
        rows = np.full(near.shape, -1, dtype=np.int64)
        rows[owners, columns] = numbers[picked]
        distances = np.full(near.shape, np.inf)
        distances[owners, columns] = candidate_distances(features, own[owners], features, picked)
        parts.append(keep_nearest_columns(distances, rows, k))
    return Neighbours(
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.rows for part in parts]),
    )
