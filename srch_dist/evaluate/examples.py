"""Example queries of a run with the rows that their codes retrieve, as values to display."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import Model, load_model
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import ExtraError, require
from srch_dist.evaluate.retrieval import query_split, read_labels
from srch_dist.kernels.packed_codes import hamming_distances
from srch_dist.kernels.retrieval_metrics import relevance
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Array, IntArray
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.results import RunResults

# Maximum number of database rows to search, since this process encodes them.
EXAMPLE_ROWS = 1 << 20
# Side arrays that can display a row, best first. Pictures are not shown for text rows.
_DISPLAY_ARRAYS = ("thumbnails", "characters", "titles")
_TEXT_ARRAYS = ("titles", "characters")


@dataclass(frozen=True)
class ExampleSample:
    """Number of example queries and of results to show, and the seed that selects the queries.

    Attributes
    ----------
    count : queries per direction.
    top : results per query.
    seed : seed that selects the queries. If the database has more than `EXAMPLE_ROWS` rows, the
        seed also selects the `EXAMPLE_ROWS` rows that are searched.
    """

    count: int
    top: int
    seed: int


@dataclass(frozen=True)
class Example:
    """One query, with its nearest rows by Hamming distance.

    Attributes
    ----------
    query : row number of the query.
    rows : (top,) row numbers of the results, nearest first, ties by row number.
    distances : (top,) Hamming distances of the results.
    """

    query: int
    rows: IntArray
    distances: IntArray


def can_show(store: FeatureStore) -> bool:
    """Return whether a store has an array that can display rows, such as thumbnails or titles."""
    return any(name in store.side for name in _DISPLAY_ARRAYS)


def gather_examples(
    run: RunResults, store: FeatureStore, count: int, top: int, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Sample queries in each direction, and describe the ``top`` nearest rows of each query.

    Returns
    -------
    For each direction (``image_to_text``), a list of ``{"query": item, "found": [item, …]}``. An
    item has ``row`` and ``text``, and ``picture`` (a data URI) if the row has a picture. Items in
    ``found`` also have the Hamming ``distance``, and ``relevant`` if the store has labels.
    """
    model = load_model(run.path)
    sample = ExampleSample(count, top, seed)
    directions = {}
    for source, target in permutations(model.means, 2):
        examples = example_queries(run, store, model, (source, target), sample)
        directions[f"{source}_to_{target}"] = [
            _describe(store, example, source, target) for example in examples
        ]
    return directions


def example_queries(
    run: RunResults,
    store: FeatureStore,
    model: Model,
    direction: tuple[str, str],
    sample: ExampleSample,
) -> list[Example]:
    """Sample queries of one modality; find the rows of another modality whose codes are nearest.

    Parameters
    ----------
    run, model : a finished run and its model.
    store : store with queries for the run; see `query_split`.
    direction : modality of the queries, and modality of the database.
    sample : number of queries, number of results per query, and the seed.
    """
    source, target = direction
    split = query_split(run, store)
    searched = split.database
    if len(searched) > EXAMPLE_ROWS:
        drawn = smallest_hashes(searched, EXAMPLE_ROWS, sample.seed, Stream.EXAMPLE_DATABASE)
        searched = np.sort(searched[drawn])
    drawn = smallest_hashes(split.queries, sample.count, sample.seed, Stream.EXAMPLE_QUERIES)
    chosen = np.sort(split.queries[drawn])
    queries = encode_rows(model, source, store.read_selected(source, chosen))
    distances = np.empty((len(chosen), 0), dtype=np.int64)
    rows = np.empty((len(chosen), 0), dtype=np.int64)
    for start in range(0, len(searched), store.rows_per_chunk):
        block = searched[start : start + store.rows_per_chunk]
        database = encode_rows(model, target, store.read_selected(target, block))
        block_distances = hamming_distances(queries, database)
        block_rows = np.tile(block, (len(queries), 1))
        distances, rows = _nearest(
            np.concatenate([distances, block_distances], axis=1),
            np.concatenate([rows, block_rows], axis=1),
            sample.top,
        )
    return [
        Example(int(query), query_rows, query_distances)
        for query, query_rows, query_distances in zip(chosen, rows, distances, strict=True)
    ]


def _nearest(distances: IntArray, rows: IntArray, top: int) -> tuple[IntArray, IntArray]:
    """Select the ``top`` nearest of m candidates for each of q queries.

    ``distances`` and ``rows`` of the candidates are (q, m); the results are (q, top). At equal
    distances, the earlier column comes first.
    """
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)


def _describe(store: FeatureStore, example: Example, source: str, target: str) -> dict[str, Any]:
    relevant = _relevant(store, example)
    items = []
    for place, row in enumerate(example.rows.tolist()):
        item = {**_item(store, row, target), "distance": int(example.distances[place])}
        if relevant is not None:
            item["relevant"] = bool(relevant[place])
        items.append(item)
    query = _item(store, example.query, source)
    if source != "text" and not query.keys() & {"picture", "glyph"} and "titles" in store.side:
        query["text"] = f"{source} of ‘{query['text']}’"
    return {"query": query, "found": items}


def _relevant(store: FeatureStore, example: Example) -> NDArray[np.bool_] | None:
    """Return whether each result shares a label with the query, (top,); None without labels."""
    if "labels" not in store.side:
        return None
    rows = np.array([example.query, *example.rows.tolist()])
    labels = np.stack(
        [read_labels(store, rows[place : place + 1])[0] for place in range(len(rows))]
    )
    relevant: NDArray[np.bool_] = relevance(labels[:1], labels[1:])[0]
    return relevant


def _item(store: FeatureStore, row: int, modality: str) -> dict[str, Any]:
    preferred = _TEXT_ARRAYS if modality == "text" else _DISPLAY_ARRAYS
    display = next((name for name in preferred if name in store.side), None)
    item: dict[str, Any] = {"row": row, "text": _title(store, display, row)}
    if display == "thumbnails" and (picture := _picture(_cell(store, display, row))):
        item["picture"] = picture
    if display == "characters":
        item["glyph"] = True
    return item


def _title(store: FeatureStore, display: str | None, row: int) -> str:
    if display == "thumbnails":
        display = "titles" if "titles" in store.side else None
    if display is None:
        return f"row {row}"
    return store.show(display, row) or f"row {row}"


def _picture(pixels: Array) -> str | None:
    """Encode pixels (h, w) or (h, w, 3 or 4) uint8 as a PNG data URI; None if not possible."""
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] in ((3,), (4,))):
        return None
    try:
        image = require("PIL.Image", "report", "showing pictures")
    except ExtraError:
        return None
    content = io.BytesIO()
    image.fromarray(pixels).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _cell(store: FeatureStore, name: str, row: int) -> Any:
    return store.read(name, row, row + 1)[0]
