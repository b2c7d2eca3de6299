"""Row selection: the rows to train on, the rows to hold out, and warnings about the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from srch_dist.config.options import TrainConfig
from srch_dist.errors import InputError
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.progress import Progress
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.recorded_runs import record_checksums
from srch_dist.storage.run.directory import RunDirectory

# Rows per chunk of the array of held-out rows.
_QUERY_ROWS = 1 << 20


def choose_rows(
    store: FeatureStore, config: TrainConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the rows to train on and the rows to hold out as queries.

    Returns
    -------
    rows : numbers of the training rows in the store, (n,) int64, ascending.
    queries : numbers of the held-out rows in the store, (m,) int64, ascending; m can be 0.

    Raises
    ------
    InputError : too few rows or modalities, or the option ``queries`` conflicts with a split of the
        store or with the option ``rows``.
    """
    if len(store.modalities) < 2:
        raise InputError(f"{store.path} has one modality; at least two are needed")
    rows = np.arange(store.rows)
    queries = rows[:0]
    if config.queries:
        if "split" in store.side:
            raise InputError(
                f"{store.path} has an array 'split', which marks the queries with 1; omit --queries"
            )
        if config.rows == "all":
            raise InputError(
                "--queries holds rows out, but --rows all trains on every row; use only one of the "
                "two"
            )
        if config.queries >= store.rows:
            raise InputError(
                f"--queries {config.queries} leaves no rows to train on, because the store has "
                f"{store.rows} rows; lower --queries"
            )
        queries = smallest_hashes(rows, config.queries, config.seed, Stream.HELD_OUT_QUERIES)
        rows = np.setdiff1d(rows, queries)
    elif config.rows == "train" and "split" in store.side:
        rows = np.flatnonzero(store.read("split") == 0)
    if len(rows) <= config.graph.k:
        raise InputError(
            f"{len(rows)} rows to train on, but each row needs graph.k = {config.graph.k} "
            "neighbours among the other rows; lower graph.k or add rows"
        )
    return rows, queries


def write_rows(
    run: RunDirectory, plan: Plan, rows: NDArray[np.int64], queries: NDArray[np.int64]
) -> None:
    """Write the row numbers ``rows`` and, if the run holds out queries, ``queries`` as arrays."""
    for path, values, chunk in (
        (run.rows, rows, plan.partition_rows),
        (run.queries, queries, _QUERY_ROWS),
    ):
        arrays.remove(path)
        if len(values):
            arrays.create_array(path, values.shape, chunk, np.int64)
            record_checksums(path, len(values), [arrays.write_rows(path, 0, values)])


def warn_unused_rows(
    store: FeatureStore,
    rows: NDArray[np.int64],
    queries: NDArray[np.int64],
    config: TrainConfig,
    progress: Progress,
) -> None:
    """Warn of unused rows: rows whose ``split`` is another value than 0 (train) or 1 (queries)."""
    if "split" in store.side and config.rows == "train":
        queries = np.flatnonzero(store.read("split") == 1)
    unused = store.rows - len(rows) - len(queries)
    if unused > 0 and config.rows == "train":
        progress.warn(f"{unused} rows are not used: their split is not 0 or 1")


def warn_narrow_modalities(store: FeatureStore, config: TrainConfig, progress: Progress) -> None:
    """Warn of modalities with fewer dimensions than the loop has bits."""
    for g, dims in store.modalities.items():
        if config.loop_bits > dims:
            progress.warn(
                f"{g} has {dims} dimensions, fewer than the loop's "
                f"{config.loop_bits} bits; its projection has orthonormal columns instead of rows"
            )
