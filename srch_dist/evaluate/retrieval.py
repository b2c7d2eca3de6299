"""Retrieval quality, streamed: counts at each Hamming distance add up over the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.encode.batch import check_modalities, encoding_rows
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import InputError
from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.packed_codes import hamming_distances
from srch_dist.kernels.types import IntArray, Packed
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.results import RunResults

# Queries a task: with 4096 database rows a tile of distances is 32 MiB.
_QUERY_ROWS, _DATABASE_TILE = 1024, 4096
_CUTOFFS = (1, 5, 10, 50, 100)
_MAP_CUTOFF = 50
_PAIR_CUTOFFS = (1, 5, 10)
# Name of the learned codes beside the modalities' names.
_LEARNED = "learned codes"


@dataclass(frozen=True)
class Split:
    """Row numbers, ascending, of the database and of the queries."""

    database: IntArray
    queries: IntArray


@dataclass(frozen=True)
class _RowBitmap:
    """Ascending numbers, a bit each between the first and the last.

    Task graphs hold those of the whole database, eight bytes each as they are.
    """

    first: int
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, numbers: IntArray) -> _RowBitmap:
        """Those of an array (m,), m > 0."""
        marks = np.zeros(numbers[-1] - numbers[0] + 1, dtype=np.bool_)
        marks[numbers - numbers[0]] = True
        return cls(int(numbers[0]), np.packbits(marks))

    @property
    def numbers(self) -> IntArray:
        """As an array again."""
        return self.first + np.flatnonzero(np.unpackbits(self.bits))


@dataclass(frozen=True)
class _Coded:
    """Codes and labels of some rows; ``codes`` by modality, and the learned ones."""

    codes: Mapping[str, Packed]
    labels: NDArray[Any] | None


class _Counts(dict[tuple[str, str], NDArray[np.int64]]):
    """(2, q, l + 1) by (query modality, database): all rows and relevant rows; they add up."""

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts({pair: counts + other[pair] for pair, counts in self.items()})


def evaluate_model(
    model: str | Path, data: str | Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Score a finished run on a store's queries; see the README for the keys of the result.

    Queries are the rows of split 1 and the database those of split 0; without a split, the
    queries are the rows that the run held out. Both are coded out of sample. Ties are scored
    by their expectation over random order.

    Raises
    ------
    InputError : the store has no queries for this run, or other modalities.
    """
    progress = progress or silent()
    run, store = open_run(model), open_store(data)
    loaded = load_model(run.path)
    check_modalities(loaded, store, list(loaded.means))
    split = query_split(run, store)
    learned_from = run if "labels" in store.side else None
    result = _evaluate(run.model, store, split, learned_from, progress)
    trained_on = 0
    if _same_store(run, store):
        trained_on = len(np.intersect1d(arrays.read_rows(run.rows), split.queries))
        if trained_on:
            progress.note(f"warning: the run was trained on {trained_on} of the queries")
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
    """The same measures of the run's baseline; None where it has none, or there are no labels."""
    if not run.baseline.exists() or "labels" not in store.side:
        return None
    metadata = load_model(run.baseline).metadata
    result = _evaluate(run.baseline, store, query_split(run, store), None, progress)
    return {"method": metadata["method"], "bits": metadata["effective_width"], **result}


def _evaluate(
    file: Location,
    store: FeatureStore,
    split: Split,
    learned_from: RunResults | None,
    progress: Progress,
) -> dict[str, Any]:
    """Measures of the model in a file; also against the learned codes of a run, if one is given."""
    loaded = load_model(file)
    labels = "labels" if "labels" in store.side else None
    (shared,) = tasks.persist([tasks.task(load_model, file)])
    step = encoding_rows(store)
    # Queries may lie far apart, and are few.
    rows: dict[str, Sequence[IntArray | _RowBitmap]] = {
        "database": [_RowBitmap.of(part) for part in _runs(split.database, step)],
        "queries": _runs(split.queries, _QUERY_ROWS),
    }
    parts = {name: _coded(store, shared, some, labels) for name, some in rows.items()}
    learned = _learned(learned_from, store, step, labels) if learned_from and labels else []
    names = list(loaded.means)
    with progress.stage("evaluate", len(parts["queries"])) as stage:
        measures = [
            tasks.task(
                _measure_queries,
                names,
                query,
                *_count(query, parts, learned, names, loaded.bits),
            )
            for query in parts["queries"]
        ]
        measured = tasks.run_all(measures, stage)
    return _average(measured, names, labels is not None, bool(learned))


def query_split(run: RunResults, store: FeatureStore) -> Split:
    """Which rows are queries; see `evaluate_model`."""
    if "split" in store.side:
        split = store.read("split")
        found = Split(np.flatnonzero(split == 0), np.flatnonzero(split == 1))
        where = "rows of split 1 (queries) and of split 0 (database)"
    elif run.queries.exists():
        if not _same_store(run, store):
            raise InputError(
                f"the run held out queries of another store than {store.path}; evaluate on the "
                "store it was trained on, or add an array 'split' (0 database, 1 queries)"
            )
        queries = arrays.read_rows(run.queries)
        found = Split(np.setdiff1d(np.arange(store.rows), queries), queries)
        where = "held-out rows and others"
    else:
        raise InputError(
            f"{store.path} has no split and the run held out no queries: add an array 'split' "
            "(0 database, 1 queries) or train with --queries N"
        )
    if not len(found.database) or not len(found.queries):
        raise InputError(f"{store.path} needs {where} to be evaluated")
    return found


def has_queries(run: RunResults, store: FeatureStore) -> bool:
    """Whether `query_split` would find queries and a database."""
    if "split" in store.side:
        split = store.read("split")
        return bool((split == 0).any() and (split == 1).any())
    return run.queries.exists()


def _same_store(run: RunResults, store: FeatureStore) -> bool:
    """Whether the run was trained on this very data, however it is chunked."""
    return bool(run.summary()["store"] == dict(store.checksums))


def _runs(rows: IntArray, step: int) -> list[IntArray]:
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _coded(
    store: FeatureStore, model: Delayed, runs: Sequence[IntArray | _RowBitmap], labels: str | None
) -> list[Delayed]:
    """Codes (every modality) and labels of ``runs`` of rows, one a task."""
    return tasks.persist([tasks.task(_code_rows, store, model, run, labels) for run in runs])


def _learned(run: RunResults, store: FeatureStore, step: int, labels: str | None) -> list[Delayed]:
    """The learned training codes that belong to the store's rows, as a database."""
    rows = arrays.read_rows(run.rows)
    if not _same_store(run, store):
        return []
    if "split" in store.side:
        keep = np.flatnonzero(store.read("split")[rows] == 0)
    else:
        keep = np.arange(len(rows))
    return [
        tasks.task(
            _read_learned, run, store, _RowBitmap.of(rows[part]), _RowBitmap.of(part), labels
        )
        for part in _runs(keep, step)
    ]


def _code_rows(
    store: FeatureStore, model: Model, chosen: IntArray | _RowBitmap, labels: str | None
) -> _Coded:
    rows = chosen.numbers if isinstance(chosen, _RowBitmap) else chosen
    codes = {g: encode_rows(model, g, store.read_selected(g, rows)) for g in model.means}
    return _Coded(codes, store.read_selected(labels, rows) if labels else None)


def _read_learned(
    run: RunResults, store: FeatureStore, rows: _RowBitmap, positions: _RowBitmap, labels: str
) -> _Coded:
    places = positions.numbers
    first, last = int(places[0]), int(places[-1])
    codes = arrays.read_rows(run.codes, first, last + 1)[places - first]
    return _Coded({_LEARNED: codes}, store.read_selected(labels, rows.numbers))


def _count(
    query: Delayed,
    parts: Mapping[str, Sequence[Delayed]],
    learned: Sequence[Delayed],
    names: list[str],
    bits: int,
) -> tuple[Delayed, Delayed, Delayed | None]:
    """Counts of one run of queries against database, all queries, and learned codes."""
    pairs = list(permutations(names, 2))
    against = [(g, _LEARNED) for g in names]

    def total(blocks: Sequence[Delayed], wanted: list[tuple[str, str]]) -> Delayed:
        return tasks.add_up(
            [tasks.task(_count_block, query, block, wanted, bits) for block in blocks]
        )

    return (
        total(parts["database"], pairs),
        total(parts["queries"], pairs),
        total(learned, against) if learned else None,
    )


def _count_block(query: _Coded, block: _Coded, pairs: list[tuple[str, str]], bits: int) -> _Counts:
    counts = _Counts()
    for source, target in pairs:
        found = np.zeros((2, len(query.codes[source]), bits + 1), dtype=np.int64)
        database = block.codes[target]
        for start in range(0, len(database), _DATABASE_TILE):
            tile = slice(start, start + _DATABASE_TILE)
            distances = hamming_distances(query.codes[source], database[tile])
            found[0] += retrieval_metrics.distance_counts(distances, None, bits)
            if query.labels is not None and block.labels is not None:
                relevant = retrieval_metrics.relevance(query.labels, block.labels[tile])
                found[1] += retrieval_metrics.distance_counts(distances, relevant, bits)
        counts[source, target] = found
    return counts


def _measure_queries(
    names: list[str],
    query: _Coded,
    database: _Counts,
    queries: _Counts,
    learned: _Counts | None,
) -> dict[str, Any]:
    """Measures of every query (q, …), by direction."""
    result: dict[str, Any] = {"pair": {}, "retrieval": {}, "learned": {}}
    for source, target in permutations(names, 2):
        both = database[source, target][0] + queries[source, target][0]
        own = np.diagonal(hamming_distances(query.codes[source], query.codes[target]))
        index = np.arange(len(own))
        tied = both[index, own]
        closer = np.cumsum(both, axis=1)[index, own] - tied
        ranks = [retrieval_metrics.partner_rank(closer, tied)]
        ranks += [
            retrieval_metrics.partner_recall(closer, tied, cutoff) for cutoff in _PAIR_CUTOFFS
        ]
        direction = f"{source}_to_{target}"
        result["pair"][direction] = np.stack(ranks, axis=1)
        if query.labels is not None:
            result["retrieval"][direction] = _measures(*database[source, target])
            if learned is not None:
                result["learned"][direction] = _measures(*learned[source, _LEARNED])
    return result


def _measures(items: NDArray[np.int64], relevant: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    precision, recall = retrieval_metrics.precision_recall(items, relevant)
    return {
        "map": retrieval_metrics.average_precision(items, relevant),
        f"map_at_{_MAP_CUTOFF}": retrieval_metrics.average_precision(items, relevant, _MAP_CUTOFF),
        "precision_at": np.stack(
            [retrieval_metrics.precision_at(items, relevant, cutoff) for cutoff in _CUTOFFS], axis=1
        ),
        "precision": precision,
        "recall": recall,
    }


def _average(
    measured: list[dict[str, Any]], names: list[str], labelled: bool, learned: bool
) -> dict[str, Any]:
    """Means over all queries, nested as they are published."""
    directions = [f"{source}_to_{target}" for source, target in permutations(names, 2)]
    pair: dict[str, Any] = {}
    for direction in directions:
        values = np.concatenate([part["pair"][direction] for part in measured])
        pair[direction] = {
            **{
                str(cutoff): float(values[:, 1 + i].mean())
                for i, cutoff in enumerate(_PAIR_CUTOFFS)
            },
            "median_rank": float(np.median(values[:, 0])),
        }
    result: dict[str, Any] = {"pair_recall": pair}
    if labelled:
        result.update(_average_retrieval(measured, "retrieval", directions))
    if learned:
        result["train_codes"] = _average_retrieval(measured, "learned", directions)
    return result


def _average_retrieval(
    measured: list[dict[str, Any]], kind: str, directions: list[str]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "map": {},
        f"map_at_{_MAP_CUTOFF}": {},
        "precision_at": {},
        "precision_recall": {},
        "queries_without_relevant": 0,
    }
    for direction in directions:
        parts = [part[kind][direction] for part in measured]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        scored = np.isfinite(joined["map"])
        result["queries_without_relevant"] = int(np.count_nonzero(~scored))
        for name in ("map", f"map_at_{_MAP_CUTOFF}"):
            result[name][direction] = _mean(joined[name][scored])
        result["precision_at"][direction] = {
            str(cutoff): _mean(joined["precision_at"][scored, i])
            for i, cutoff in enumerate(_CUTOFFS)
        }
        result["precision_recall"][direction] = {
            "radius": list(range(joined["recall"].shape[1])),
            "precision": [_mean(column) for column in joined["precision"][scored].T],
            "recall": [_mean(column) for column in joined["recall"][scored].T],
        }
    return result


def _mean(values: NDArray[Any]) -> float | None:
    """Mean over the queries for which a value exists; None where there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
