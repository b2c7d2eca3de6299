"""Coarse clusters by k-means|| (Bahmani et al., VLDB 2012) on a sample of rows.

The row order and the partitioned neighbour search use these clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.clusters import SAMPLE_CHUNK, sample_size
from srch_dist.kernels.sampling import Stream, hash_rows
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location
from srch_dist.storage.run.directory import RunDirectory

# Rounds of k-means||, and maximum number of iterations of Lloyd's algorithm.
_INIT_ROUNDS, _LLOYD_ITERATIONS = 5, 20


def sample_for_clusters(rows: NDArray[np.int64], clusters: int, total: int) -> NDArray[np.int64]:
    """Select the rows of the k-means sample from ``rows``, by hash of the row number in the store.

    The sample of all ``total`` rows has about 64 rows per cluster, and at least about 16,384 rows.
    The sample does not depend on the row order or the partitioning.

    Returns
    -------
    Positions of the sampled rows in ``rows``, ascending.
    """
    wanted = sample_size(clusters)
    if wanted >= total:
        return np.arange(len(rows))
    limit = np.uint64(int(wanted / total * 2**64))
    # A threshold instead of `smallest_hashes`: each partition samples its rows without the others.
    return np.flatnonzero(hash_rows(Stream.CLUSTER_SAMPLE, rows) < limit)


def find_centres(
    run: RunDirectory,
    space: str,
    clusters: int,
    seed: int,
    sample: Callable[..., NDArray[np.float32]],
    *arguments: object,
) -> NDArray[np.float64]:
    """Run k-means on a sample of rows; return c centres (c, w), c ≤ ``clusters``.

    Parameters
    ----------
    space : name under which the sampled points are stored.
    sample : function that one task calls as ``sample(*arguments)``. It returns the m sampled points
        (m, w) in w dimensions, in the order of their row numbers. k-means reads the points in
        blocks of fixed size.
    """
    path = run.points(space)
    m, width, distinct = tasks.run_one(tasks.task(_write_sample, run, space, sample, *arguments))
    if distinct <= clusters:
        return np.unique(arrays.read_rows(path), axis=0).astype(np.float64)
    return _k_means(path, m, width, clusters, seed)


def _k_means(path: Location, m: int, width: int, clusters: int, seed: int) -> NDArray[np.float64]:
    # Imported here: it takes seconds, and small runs do not need it.
    import dask.array as da
    import threadpoolctl
    from dask_ml.cluster import KMeans

    spans = [(start, min(start + SAMPLE_CHUNK, m)) for start in range(0, m, SAMPLE_CHUNK)]
    blocks = [
        da.from_delayed(
            tasks.task(arrays.read_rows, path, *span), (span[1] - span[0], width), np.float32
        )
        for span in spans
    ]
    model = KMeans(
        n_clusters=clusters,
        init="k-means||",
        # dask-ml takes the number of candidates a round, not a multiple of the clusters.
        oversampling_factor=2 * clusters,
        init_max_iter=_INIT_ROUNDS,
        max_iter=_LLOYD_ITERATIONS,
        random_state=seed % 2**32,
    )
    # The rounding of a multithreaded sum depends on the number of threads.
    with threadpoolctl.threadpool_limits(1):
        model.fit(da.concatenate(blocks))
    return np.asarray(model.cluster_centers_, dtype=np.float64)


def _write_sample(
    run: RunDirectory,
    space: str,
    sample: Callable[..., NDArray[np.float32]],
    *arguments: object,
) -> tuple[int, int, int]:
    """Call ``sample`` and store the points (m, w); return m, w and the count of distinct points."""
    points = sample(*arguments)
    arrays.remove(run.points(space))
    arrays.create_array(run.points(space), points.shape, SAMPLE_CHUNK, np.float32)
    for start in range(0, len(points), SAMPLE_CHUNK):
        arrays.write_rows(run.points(space), start, points[start : start + SAMPLE_CHUNK])
    distinct = len({row.tobytes() for row in points})
    return len(points), points.shape[1], distinct
