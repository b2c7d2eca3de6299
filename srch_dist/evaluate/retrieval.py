"""Measure retrieval quality of a run from counts per Hamming distance, summed over the database.

The largest arrays are counts (queries, bits + 1). Distances of all queries to the whole database
are never in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed

from srch_dist.encode.batch import check_modalities, encoding_rows
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import score_rows
from srch_dist.errors import InputError
from srch_dist.evaluate.float_vectors import (
    FLOAT_QUERIES,
    Direction,
    comparable,
    measure_floats,
    rank_block,
    read_queries,
)
from srch_dist.evaluate.measures import (
    ASYMMETRIC,
    LEARNED,
    SYMMETRIC,
    EncodedRows,
    Key,
    average_measures,
    count_rows,
    measure_queries,
)
from srch_dist.evaluate.row_sets import RowBitmap, RowSet, Split, cut_rows, rows_of
from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Array, IntArray
from srch_dist.kernels.weighted_hamming import query_weights
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.results import RunResults

# Queries per task, and database rows per tile: distances (1024, 4096) int64 are 32 MiB.
_QUERY_ROWS, _DATABASE_TILE = 1024, 4096
# Maximum number of rows that an error message lists.
_LISTED = 5


def evaluate_model(
    model: str | Path, data: str | Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure the retrieval quality of a finished run on the queries of a store.

    Queries are the rows of split 1, and the database is the rows of split 0. Without a split,
    queries are the rows that the run held out. Queries and database are encoded out of sample. For
    rows at equal distance, a measure is the expectation over random orders of these rows (McSherry
    and Najork, ECIR 2008).

    Parameters
    ----------
    model : run directory of a finished run.
    data : feature store.
    progress : display of the progress; None shows nothing.

    Returns
    -------
    Measures as plain values; docs/reference/json.md lists the keys.

    Raises
    ------
    InputError : the store has no queries for this run, or lacks a modality of the model.
    """
    return evaluate_run(open_run(model), open_store(data), progress or silent())


def evaluate_run(run: RunResults, store: FeatureStore, progress: Progress) -> dict[str, Any]:
    """Measure the retrieval quality of a run on an opened store; see `evaluate_model`.

    A store that replaced ``store`` in its folder is refused.
    """
    loaded = load_model(run.path)
    check_modalities(loaded, store, list(loaded.means))
    split = query_split(run, store)
    learned_from = run if "labels" in store.side else None
    result = _evaluate(run.model, store, split, learned_from, progress)
    trained_on = 0
    if not _differing(run, store):
        trained_on = len(np.intersect1d(run.read_rows(), split.queries))
        if trained_on:
            progress.warn(
                f"the run was trained on {trained_on} of the {len(split.queries)} queries"
            )
    return {
        "queries": len(split.queries),
        "database": len(split.database),
        "queries_trained_on": trained_on,
        "bits": loaded.bits,
        **result,
    }


def evaluate_baseline(
    run: RunResults, store: FeatureStore, progress: Progress
) -> dict[str, Any] | None:
    """Measure the run's baseline; None if the run has no baseline, or the store has no labels."""
    if not run.baseline.exists() or "labels" not in store.side:
        return None
    metadata = load_model(run.baseline).metadata
    result = _evaluate(run.baseline, store, query_split(run, store), None, progress)
    return {"method": metadata["method"], "bits": metadata["effective_width"], **result}


def query_split(run: RunResults, store: FeatureStore) -> Split:
    """Return the rows of the database and of the queries; see `evaluate_model`.

    Raises
    ------
    InputError : the store has no queries or no database for this run.
    """
    if "split" in store.side:
        split = store.read("split")
        rows = Split(np.flatnonzero(split == 0), np.flatnonzero(split == 1))
        needed = "rows of split 1 (queries) and of split 0 (database)"
    elif (queries := run.read_queries()) is not None:
        if differing := _differing(run, store):
            raise InputError(
                f"the run's held-out queries are not from {store.path}: {', '.join(differing)} "
                "differ from the features that the run was trained on. Evaluate on a store with "
                "the same features (labels may be added), or add an array 'split' (0 database, 1 "
                "queries)."
            )
        rows = Split(np.setdiff1d(np.arange(store.rows), queries), queries)
        needed = "held-out rows (queries) and other rows (database)"
    else:
        raise InputError(
            f"{store.path} has no split and the run held out no queries. Add an array 'split' "
            "(0 database, 1 queries), or train with --queries N."
        )
    if not len(rows.database) or not len(rows.queries):
        raise InputError(
            f"{store.path} has {len(rows.queries)} queries and {len(rows.database)} database rows; "
            f"an evaluation needs {needed}"
        )
    return rows


def has_queries(run: RunResults, store: FeatureStore) -> bool:
    """Return whether the store has queries and a database for this run; see `query_split`."""
    if "split" in store.side:
        split = store.read("split")
        return bool((split == 0).any() and (split == 1).any())
    return run.has_held_out()


def read_labels(store: FeatureStore, rows: IntArray) -> Array:
    """Read the labels of m rows: classes (m,), or multi-hot labels (m, c) for c classes.

    Raises
    ------
    InputError : labels are not valid, which is possible in stores of older versions.
    """
    labels = store.read_selected("labels", rows)
    invalid, problem = retrieval_metrics.invalid_labels(labels)
    if len(invalid):
        listing = ", ".join(str(row) for row in rows[invalid[:_LISTED]])
        raise InputError(
            f"{store.path}: labels of row {listing}{', …' if len(invalid) > _LISTED else ''} "
            f"cannot be scored: {problem}. Then ingest again."
        )
    return labels


def _evaluate(
    file: Location,
    store: FeatureStore,
    split: Split,
    learned_from: RunResults | None,
    progress: Progress,
) -> dict[str, Any]:
    """Measure the model that ``file`` contains.

    If ``learned_from`` is given and the store has labels, also measure how the queries retrieve the
    codes that this run learned for its training rows.
    """
    loaded = load_model(file)
    labels = "labels" if "labels" in store.side else None
    (shared_model,) = tasks.persist([tasks.task(load_model, file)])
    step = encoding_rows(store)
    rows: dict[str, Sequence[RowSet]] = {
        "database": [RowBitmap.of(block) for block in cut_rows(split.database, step)],
        "queries": cut_rows(split.queries, _QUERY_ROWS),
    }
    encoded = {
        name: _encode_blocks(store, shared_model, blocks, labels) for name, blocks in rows.items()
    }
    learned = _read_blocks(learned_from, store, step) if learned_from and labels else []
    names = list(loaded.means)
    with progress.stage("evaluate", len(encoded["queries"])) as stage:
        work = [
            tasks.task(
                measure_queries,
                names,
                queries,
                *_count_tasks(queries, encoded, learned, names),
            )
            for queries in encoded["queries"]
        ]
        measured = tasks.run_all(work, stage)
    result = average_measures(measured, names, labels is not None, bool(learned))
    if pairs := comparable(store, names):
        result |= _compare_floats(store, shared_model, rows, encoded, pairs)
    return result


def _compare_floats(
    store: FeatureStore,
    model: Delayed,
    rows: Mapping[str, Sequence[RowSet]],
    encoded: Mapping[str, Sequence[Delayed]],
    pairs: list[Direction],
) -> dict[str, Any]:
    """Compare the codes of a sample of the queries with the float vectors; see `float_vectors`."""
    queries = np.concatenate([rows_of(block) for block in rows["queries"]])
    sample = queries[smallest_hashes(queries, FLOAT_QUERIES, 0, Stream.FLOAT_QUERIES)]
    (codes,) = _encode_blocks(store, model, [sample], None)
    (floats,) = tasks.persist([tasks.task(read_queries, store, sample, pairs)])
    ranks = [
        tasks.task(rank_block, floats, codes, store, block_rows, block, side == "database")
        for side, blocks in encoded.items()
        for block_rows, block in zip(rows[side], blocks, strict=True)
    ]
    keys = [(*pair, ranking) for pair in pairs for ranking in (SYMMETRIC, ASYMMETRIC)]
    counts = [
        tasks.task(count_rows, codes, block, keys, _DATABASE_TILE) for block in encoded["database"]
    ]
    measured: dict[str, Any] = tasks.run_one(
        tasks.task(measure_floats, tasks.add_up(ranks), tasks.add_up(counts))
    )
    return {"float_queries": len(sample), **measured}


def _differing(run: RunResults, store: FeatureStore) -> list[str]:
    """List the run's modalities with features that the store lacks, or has with other values.

    If the list is empty, row numbers of the run are row numbers of the store. Chunk sizes and side
    arrays may differ: labels may have been added after training.
    """
    trained = run.outcome()["store"]
    return [g for g in load_model(run.path).means if store.checksums.get(g) != trained.get(g)]


def _encode_blocks(
    store: FeatureStore, model: Delayed, blocks: Sequence[RowSet], labels: str | None
) -> list[Delayed]:
    """Create one task per block, which encodes the block's rows in every modality.

    If ``labels`` is not None, the task also reads the rows' labels. Blocks of queries, which are no
    bitmaps, also get the weights of their bits.
    """
    return tasks.persist([tasks.task(_encode_block, store, model, rows, labels) for rows in blocks])


def _read_blocks(run: RunResults, store: FeatureStore, step: int) -> list[Delayed]:
    """Create tasks that read the learned codes and labels of ``step`` database rows each.

    Returns an empty list if the run was trained on another store.
    """
    rows = run.read_rows()
    if _differing(run, store):
        return []
    if "split" in store.side:
        positions = np.flatnonzero(store.read("split")[rows] == 0)
    else:
        positions = np.arange(len(rows))
    return [
        tasks.task(_read_block, run, store, RowBitmap.of(rows[block]), RowBitmap.of(block))
        for block in cut_rows(positions, step)
    ]


def _encode_block(
    store: FeatureStore, model: Model, block: RowSet, labels: str | None
) -> EncodedRows:
    rows, is_query = rows_of(block), not isinstance(block, RowBitmap)
    codes, weights = {}, {}
    for g in model.means:
        scores = score_rows(model, g, store.read_selected(g, rows))
        codes[g] = pack_codes(sign_codes(scores))
        if is_query:
            weights[g] = query_weights(scores)
    return EncodedRows(codes, read_labels(store, rows) if labels else None, weights)


def _read_block(
    run: RunResults, store: FeatureStore, rows: RowBitmap, positions: RowBitmap
) -> EncodedRows:
    """Read the learned codes and the labels of some rows.

    ``positions`` are row numbers in the run's array of codes; ``rows`` are the numbers of the same
    rows in the store.
    """
    chosen = positions.rows
    first, last = int(chosen[0]), int(chosen[-1])
    codes = run.read_codes(first, last + 1)[chosen - first]
    return EncodedRows({LEARNED: codes}, read_labels(store, rows.rows))


def _count_tasks(
    queries: Delayed,
    encoded: Mapping[str, Sequence[Delayed]],
    learned: Sequence[Delayed],
    names: list[str],
) -> tuple[Delayed, Delayed, Delayed | None]:
    """Create three tasks that count rows by distance from a block of queries.

    The first task counts rows of the database, the second task rows of the complete query set, and
    the third task learned codes. The third task is None if ``learned`` is empty.
    """
    directions = [
        (source, target, ranking)
        for source, target in permutations(names, 2)
        for ranking in (SYMMETRIC, ASYMMETRIC)
    ]
    to_learned = [(g, LEARNED, SYMMETRIC) for g in names]

    def total(blocks: Sequence[Delayed], keys: list[Key]) -> Delayed:
        return tasks.add_up(
            [tasks.task(count_rows, queries, block, keys, _DATABASE_TILE) for block in blocks]
        )

    return (
        total(encoded["database"], directions),
        total(encoded["queries"], directions),
        total(learned, to_learned) if learned else None,
    )
