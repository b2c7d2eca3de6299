"""Measure the rates of this machine by timing short runs of the package's kernels.

All workers of a local cluster measure at the same time, because workers share memory bandwidth and
disk during training, too.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from srch_dist.kernels import features
from srch_dist.kernels.graph import adjacency
from srch_dist.kernels.graph.neighbours import Neighbours, merge_exact
from srch_dist.kernels.multigrid import conjugate_gradients
from srch_dist.plan.rates import Rates
from srch_dist.runtime import tasks
from srch_dist.runtime.cluster import Cluster, start_local
from srch_dist.runtime.progress import Progress
from srch_dist.runtime.temporary import temporary_folder
from srch_dist.storage import arrays
from srch_dist.storage.scratch import spill_runs

# Number of timed repetitions of a measurement, after one repetition that is not timed.
_REPEATS = 3
# Rows and dimensions of the feature block for the measurements.
_ROWS = 8192
_DIMS = 512
# Bits per code, and neighbours per row.
_BITS = 64
_K = 10
# Columns of Z that are solved together. Fewer columns take longer per multiplication.
_COLUMNS = 16
# Rows of the sparse matrix and of the vectors, too many for a processor's cache.
_LONG_ROWS = 65_536
# `_NEAR_SHARE` of the sparse matrix's entries are within `_NEAR_ROWS` rows of the diagonal.
_NEAR_SHARE = 0.75
_NEAR_ROWS = 4096
# Number of chunks, of `_ROWS` rows each, in the array to write and read.
_CHUNKS = 4
# Dimensions of the search measurement. With few dimensions, products need little of the time.
_SEARCH_DIMS = 16
# Number of tasks in the graph that measures the scheduler.
_TASKS = 1000


def calibrate(
    workers: int | None = None, memory_limit: str | None = None, progress: Progress | None = None
) -> Rates:
    """Measure rates in a local cluster; rates that cannot be calibrated keep their defaults.

    Parameters
    ----------
    workers, memory_limit : size of the cluster; see `machine.local_size`.
    progress : display for the start of the cluster.
    """
    with start_local(workers, memory_limit, progress) as cluster:
        return measure_cluster(cluster)


def measure_cluster(cluster: Cluster) -> Rates:
    """Measure the rates of a cluster on this machine; return the means over its workers."""
    with temporary_folder() as folder:
        names = [f"{folder}/{number}" for number in range(cluster.workers)]
        measured = tasks.run_all([tasks.task(measure_worker, name) for name in names])
        task = _task_seconds()
    rates: dict[str, Any] = {
        name: float(np.mean([worker[name] for worker in measured])) for name in measured[0]
    }
    return dataclasses.replace(Rates(), task=task, **rates)


def measure_worker(folder: str) -> dict[str, float]:
    """Measure the rates of this process, with test files in ``folder``.

    Returns each rate under the name of its field in `Rates`.
    """
    rng = np.random.default_rng(0)
    block = rng.standard_normal((_ROWS, _DIMS), dtype=np.float32)
    return {
        **_storage_rates(Path(folder), block),
        **_dense_rates(block),
        **_search_rate(block),
        **_graph_rates(rng),
    }


def _storage_rates(folder: Path, block: np.ndarray[Any, Any]) -> dict[str, float]:
    path = folder / "array"
    arrays.create_array(path, (_CHUNKS * _ROWS, _DIMS), _ROWS, block.dtype)
    starts = range(0, _CHUNKS * _ROWS, _ROWS)
    written = _seconds(lambda: [arrays.write_rows(path, start, block) for start in starts], 2)
    read = _seconds(lambda: [arrays.read_rows(path, start, start + _ROWS) for start in starts])
    file = spill_runs(folder / "runs", {"block": block.dtype}, [{"block": block.ravel()}])["block"]
    runs = [slice(low, low + _LONG_ROWS) for low in range(0, block.size, _LONG_ROWS)]
    scanned = _seconds(lambda: [file[run] for run in runs])
    return {
        "write": _CHUNKS * block.nbytes / written,
        "read": _CHUNKS * block.nbytes / read,
        "scan": block.nbytes / scanned,
    }


def _dense_rates(block: np.ndarray[Any, Any]) -> dict[str, float]:
    """Time the two matrix products of the B-step, and normalisation."""
    weights = np.ascontiguousarray(block[:_BITS].T)
    signs = np.sign(block[:, :_BITS])
    seconds = _seconds(lambda: (block @ weights, block.T @ signs))
    mean, dtype = np.zeros(_DIMS), block.dtype

    def normalise() -> None:
        features.column_sums(block)
        features.normalise(block, mean, True, True, dtype)

    operations = 2 * 2 * block.size * _BITS
    return {"gemm": operations / seconds, "normalise": block.size / _seconds(normalise)}


def _search_rate(block: np.ndarray[Any, Any]) -> dict[str, float]:
    """Time exact neighbour search in `_SEARCH_DIMS` dimensions."""
    narrow = np.ascontiguousarray(block[:, :_SEARCH_DIMS])
    queries = narrow[: _ROWS // 4]
    rows = np.arange(len(queries))
    empty = Neighbours.empty(len(queries), _K)
    seconds = _seconds(lambda: merge_exact(empty, queries, rows, narrow, np.arange(_ROWS)))
    return {"pairs": len(queries) * _ROWS / seconds}


def _graph_rates(rng: np.random.Generator) -> dict[str, float]:
    """Time the merge of edges, the sparse product, and the vector updates of CG."""
    n, ends = _LONG_ROWS, _LONG_ROWS * _K
    keys = rng.integers(0, n * n, size=(2, ends))

    def merge() -> None:
        outgoing, incoming = np.sort(keys[0]), np.sort(keys[1])
        adjacency.build_adjacency([adjacency.symmetrise(outgoing, incoming, False)], n, n)

    # As in the row order of training, most neighbours are near the row, the others anywhere.
    owners = np.repeat(np.arange(n), 2 * _K)
    near = (owners + rng.integers(-_NEAR_ROWS, _NEAR_ROWS, size=2 * ends)) % n
    far = rng.integers(0, n, size=2 * ends)
    columns = np.where(rng.random(2 * ends) < _NEAR_SHARE, near, far).astype(np.int32)
    indptr = np.arange(0, 2 * ends + 1, 2 * _K, dtype=np.int32)
    matrix = scipy.sparse.csr_array((np.ones(2 * ends, np.float32), columns, indptr), shape=(n, n))
    vectors = np.ones((n, _COLUMNS), dtype=np.float32)
    products = _seconds(lambda: matrix @ vectors)
    ones = np.ones(_COLUMNS)
    shared = conjugate_gradients.Coefficients(ones, ones, ones, ones, ones > 0, ones, 0, ())
    state = conjugate_gradients.Vectors(vectors, vectors, vectors, vectors)

    def update() -> None:
        conjugate_gradients.advance(state, vectors, vectors, shared)
        conjugate_gradients.column_dots(state, vectors, vectors)

    return {
        "edges": 2 * ends / _seconds(merge),
        "sparse": 2 * ends * _COLUMNS / products,
        "stream": 16 * vectors.nbytes / _seconds(update),
    }


def _task_seconds() -> float:
    """Measure the scheduler's seconds per task, on a graph of trivial tasks."""

    def run() -> None:
        parts = [tasks.task(abs, number) for number in range(_TASKS)]
        tasks.run_one(tasks.task(_count, *parts))

    return _seconds(run) / _TASKS


def _count(*parts: int) -> int:
    return len(parts)


def _seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Return the median wall-clock seconds of ``repeats`` calls, after one untimed call."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
