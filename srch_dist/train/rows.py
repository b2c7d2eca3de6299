"""What a run trains on: the store, the rows of it, and what is said of them."""

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
from srch_dist.storage.run.directory import RunDirectory

_CODE_ROWS = 1 << 20


def choose_rows(
    store: FeatureStore, config: TrainConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers to train on and to hold out, ascending.

    Raises
    ------
    InputError : too few rows or modalities for the graph, or queries asked for twice.
    """
    if len(store.modalities) < 2:
        raise InputError(f"{store.path} has one modality; at least two are needed")
    rows = np.arange(store.rows)
    queries = rows[:0]
    if config.queries:
        if "split" in store.side:
            raise InputError(
                f"{store.path} has a split, whose rows of split 1 are the queries; "
                "leave --queries out"
            )
        if config.rows == "all":
            raise InputError("--queries holds rows out, --rows all trains on every row; drop one")
        if config.queries >= store.rows:
            raise InputError(
                f"--queries {config.queries} of {store.rows} rows leaves none to train"
            )
        queries = smallest_hashes(rows, config.queries, config.seed, Stream.HELD_OUT_QUERIES)
        rows = np.setdiff1d(rows, queries)
    elif config.rows == "train" and "split" in store.side:
        rows = np.flatnonzero(store.read("split") == 0)
    if len(rows) <= config.graph.k:
        raise InputError(
            f"{len(rows)} rows to train on, but each needs graph.k = {config.graph.k} neighbours "
            "besides itself; lower graph.k or bring more rows"
        )
    return rows, queries


def write_rows(
    run: RunDirectory, plan: Plan, rows: NDArray[np.int64], queries: NDArray[np.int64]
) -> None:
    """Write the numbers of the rows of a run, and of its queries where there are any."""
    for path, values, chunk in (
        (run.rows, rows, plan.partition_rows),
        (run.queries, queries, _CODE_ROWS),
    ):
        arrays.remove(path)
        if len(values):
            arrays.create_array(path, values.shape, chunk, np.int64)
            arrays.write_rows(path, 0, values)


def note_unused(
    store: FeatureStore,
    rows: NDArray[np.int64],
    queries: NDArray[np.int64],
    config: TrainConfig,
    progress: Progress,
) -> None:
    """Say how many rows are neither trained on nor queries: splits other than 0 and 1."""
    if "split" in store.side and config.rows == "train":
        queries = np.flatnonzero(store.read("split") == 1)
    unused = store.rows - len(rows) - len(queries)
    if unused > 0 and config.rows == "train":
        progress.note(f"warning: {unused} rows have a split other than 0 and 1 and are not used")


def note_narrow(store: FeatureStore, config: TrainConfig, progress: Progress) -> None:
    """Say which modalities have fewer dimensions than the loop learns bits."""
    for g, dims in store.modalities.items():
        if config.loop_bits > dims:
            progress.note(
                f"warning: {g} has {dims} dimensions, fewer than the loop's "
                f"{config.loop_bits} bits; its projection has orthonormal columns instead of rows"
            )
