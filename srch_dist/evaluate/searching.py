"""Nearest codes in Hamming distance, streamed over a database."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import Model
from srch_dist.encode.scoring import encode_rows
from srch_dist.evaluate.retrieval import query_split
from srch_dist.kernels.packed_codes import Packed, hamming_distances, hash_rows
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunResults

# So that the sample is not the one drawn from the same seed for something else.
_STREAM, _DATABASE_STREAM = 0xE8A3, 0xE8A4
# Rows that examples are looked for in, at most: they are coded in one process.
EXAMPLE_ROWS = 1 << 20


@dataclass(frozen=True)
class Example:
    """One query and what its code finds.

    Attributes
    ----------
    query : its row number. found : row numbers, nearest first, ties by row number.
    distances : Hamming distance of each.
    """

    query: int
    found: NDArray[np.int64]
    distances: NDArray[np.int64]


def example_queries(
    run: RunResults,
    store: FeatureStore,
    model: Model,
    source: str,
    target: str,
    count: int,
    top: int,
    seed: int,
) -> list[Example]:
    """A few queries of one modality and their nearest rows of another, by code.

    Of a larger database, `EXAMPLE_ROWS` rows are searched, which the seed chooses.
    """
    split = query_split(run, store)
    searched = split.database
    if len(searched) > EXAMPLE_ROWS:
        order = np.argpartition(hash_rows(seed ^ _DATABASE_STREAM, searched), EXAMPLE_ROWS)
        searched = np.sort(searched[order[:EXAMPLE_ROWS]])
    keys = hash_rows(seed ^ _STREAM, split.queries)
    chosen = np.sort(split.queries[np.argsort(keys)[:count]])
    queries = encode_rows(model, source, store.read_selected(source, chosen))
    distances = np.empty((len(chosen), 0), dtype=np.int64)
    rows = np.empty((len(chosen), 0), dtype=np.int64)
    for start in range(0, len(searched), store.rows_per_chunk):
        part = searched[start : start + store.rows_per_chunk]
        database = encode_rows(model, target, store.read_selected(target, part))
        distances, rows = _merge(distances, rows, queries, database, part, top)
    return [
        Example(int(query), found, apart)
        for query, found, apart in zip(chosen, rows, distances, strict=True)
    ]


def _merge(
    distances: NDArray[np.int64],
    rows: NDArray[np.int64],
    queries: Packed,
    database: Packed,
    part: NDArray[np.int64],
    top: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ``top`` nearest so far; rows come in ascending order, so a stable sort keeps ties."""
    both = np.concatenate([distances, hamming_distances(queries, database)], axis=1)
    numbers = np.concatenate([rows, np.tile(part, (len(queries), 1))], axis=1)
    order = np.argsort(both, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(both, order, 1), np.take_along_axis(numbers, order, 1)
