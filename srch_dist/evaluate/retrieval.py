"""Measure retrieval quality of a run from counts per Hamming distance, summed over the database.

The largest arrays are counts (queries, bits + 1). Distances of all queries to the whole database
are never in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed

from srch_dist.encode.batch import check_modalities, encoding_rows
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import InputError
from srch_dist.evaluate.measures import (
    LEARNED,
    Counts,
    EncodedRows,
    average_measures,
    measure_queries,
)
from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import hamming_distances
from srch_dist.kernels.types import Array, IntArray, Packed
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


@dataclass(frozen=True)
class Split:
    """Row numbers of the database and row numbers of the queries, each ascending."""

    database: IntArray
    queries: IntArray


@dataclass(frozen=True)
class _RowBitmap:
    """Ascending row numbers, stored as a bitmap from the smallest to the largest number.

    The task graph contains the row numbers of the whole database. As int64, a row number would need
    8 bytes.

    Attributes
    ----------
    first : the smallest row number.
    bits : packed bits, one bit for each number from ``first`` on: 1 if the row is in the set.
    """

    first: int
    bits: Packed

    @classmethod
    def of(cls, rows: IntArray) -> _RowBitmap:
        """Make the bitmap of one or more ascending row numbers."""
        selected = np.zeros(rows[-1] - rows[0] + 1, dtype=np.bool_)
        selected[rows - rows[0]] = True
        return cls(int(rows[0]), np.packbits(selected))

    @property
    def rows(self) -> IntArray:
        """Row numbers, ascending."""
        return self.first + np.flatnonzero(np.unpackbits(self.bits))


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
    progress = progress or silent()
    run, store = open_run(model), open_store(data)
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
    # Queries are few and may be far apart: a bitmap would be larger than their row numbers.
    rows: dict[str, Sequence[IntArray | _RowBitmap]] = {
        "database": [_RowBitmap.of(block) for block in _blocks(split.database, step)],
        "queries": _blocks(split.queries, _QUERY_ROWS),
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
                *_count_tasks(queries, encoded, learned, names, loaded.bits),
            )
            for queries in encoded["queries"]
        ]
        measured = tasks.run_all(work, stage)
    return average_measures(measured, names, labels is not None, bool(learned))


def _differing(run: RunResults, store: FeatureStore) -> list[str]:
    """List the run's modalities with features that the store lacks, or has with other values.

    If the list is empty, row numbers of the run are row numbers of the store. Chunk sizes and side
    arrays may differ: labels may have been added after training.
    """
    trained = run.outcome()["store"]
    return [g for g in load_model(run.path).means if store.checksums.get(g) != trained.get(g)]


def _blocks(rows: IntArray, step: int) -> list[IntArray]:
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _encode_blocks(
    store: FeatureStore, model: Delayed, blocks: Sequence[IntArray | _RowBitmap], labels: str | None
) -> list[Delayed]:
    """Create one task per block, which encodes the block's rows in every modality.

    If ``labels`` is not None, the task also reads the rows' labels.
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
        tasks.task(_read_block, run, store, _RowBitmap.of(rows[block]), _RowBitmap.of(block))
        for block in _blocks(positions, step)
    ]


def _encode_block(
    store: FeatureStore, model: Model, block: IntArray | _RowBitmap, labels: str | None
) -> EncodedRows:
    rows = block.rows if isinstance(block, _RowBitmap) else block
    codes = {g: encode_rows(model, g, store.read_selected(g, rows)) for g in model.means}
    return EncodedRows(codes, read_labels(store, rows) if labels else None)


def _read_block(
    run: RunResults, store: FeatureStore, rows: _RowBitmap, positions: _RowBitmap
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
    bits: int,
) -> tuple[Delayed, Delayed, Delayed | None]:
    """Create three tasks that count rows by distance from a block of queries.

    The first task counts rows of the database, the second task rows of the complete query set, and
    the third task learned codes. The third task is None if ``learned`` is empty.
    """
    directions = list(permutations(names, 2))
    to_learned = [(g, LEARNED) for g in names]

    def total(blocks: Sequence[Delayed], pairs: list[tuple[str, str]]) -> Delayed:
        return tasks.add_up(
            [tasks.task(_count_block, queries, block, pairs, bits) for block in blocks]
        )

    return (
        total(encoded["database"], directions),
        total(encoded["queries"], directions),
        total(learned, to_learned) if learned else None,
    )


def _count_block(
    queries: EncodedRows, block: EncodedRows, pairs: list[tuple[str, str]], bits: int
) -> Counts:
    counts = Counts()
    for source, target in pairs:
        totals = np.zeros((2, len(queries.codes[source]), bits + 1), dtype=np.int64)
        database = block.codes[target]
        for start in range(0, len(database), _DATABASE_TILE):
            tile = slice(start, start + _DATABASE_TILE)
            distances = hamming_distances(queries.codes[source], database[tile])
            totals[0] += retrieval_metrics.distance_counts(distances, None, bits)
            if queries.labels is not None and block.labels is not None:
                relevant = retrieval_metrics.relevance(queries.labels, block.labels[tile])
                totals[1] += retrieval_metrics.distance_counts(distances, relevant, bits)
        counts[source, target] = totals
    return counts
