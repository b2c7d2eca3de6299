"""Queries of a run and what their codes find, in plain values that can be kept and shown."""

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
from srch_dist.evaluate.retrieval import query_split
from srch_dist.kernels.packed_codes import hamming_distances
from srch_dist.kernels.retrieval_metrics import relevance
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Packed
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.results import RunResults

# Side arrays that show a row, best first.
_SHOWN = ("thumbnails", "characters", "titles")
_OF_TEXT = ("titles", "characters")


def can_show(store: FeatureStore) -> bool:
    """Whether a store has anything by which a person knows a row."""
    return any(name in store.side for name in _SHOWN)


def gather_examples(
    run: RunResults, store: FeatureStore, count: int, top: int, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """A few queries of each direction, with the ``top`` rows nearest to each by code.

    By direction (``image_to_text``) a list of ``{"query": item, "found": [item, …]}``. An item has
    ``row``, ``text`` and, where there is a picture, ``picture`` (a data URI); one that was found
    has its Hamming ``distance``, and ``relevant`` where there are labels.
    """
    model = load_model(run.path)
    directions = {}
    for source, target in permutations(model.means, 2):
        found = example_queries(run, store, model, source, target, count, top, seed)
        directions[f"{source}_to_{target}"] = [
            _describe(store, example, source, target) for example in found
        ]
    return directions


def _describe(store: FeatureStore, example: Example, source: str, target: str) -> dict[str, Any]:
    relevant = _relevant(store, example)
    items = []
    for place, row in enumerate(example.found.tolist()):
        item = {**_item(store, row, target), "distance": int(example.distances[place])}
        if relevant is not None:
            item["relevant"] = bool(relevant[place])
        items.append(item)
    return {"query": _item(store, example.query, source), "found": items}


def _relevant(store: FeatureStore, example: Example) -> NDArray[np.bool_] | None:
    if "labels" not in store.side:
        return None
    labels = [_cell(store, "labels", row) for row in (example.query, *example.found.tolist())]
    found: NDArray[np.bool_] = relevance(np.stack(labels[:1]), np.stack(labels[1:]))[0]
    return found


def _item(store: FeatureStore, row: int, modality: str) -> dict[str, Any]:
    wanted = _OF_TEXT if modality == "text" else _SHOWN
    kind = next((name for name in wanted if name in store.side), None)
    item: dict[str, Any] = {"row": row, "text": _title(store, kind, row)}
    if kind == "thumbnails" and (picture := _picture(_cell(store, kind, row))):
        item["picture"] = picture
    if kind == "characters":
        item["glyph"] = True
    return item


def _title(store: FeatureStore, kind: str | None, row: int) -> str:
    if kind == "thumbnails":
        kind = "titles" if "titles" in store.side else None
    # A title may list several names; the first says enough here.
    return f"row {row}" if kind is None else str(_cell(store, kind, row)).split(",")[0]


def _picture(pixels: NDArray[Any]) -> str | None:
    """A PNG as a data URI of pixels (h, w) or (h, w, 3 or 4), uint8; None where that cannot be."""
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
        sample = smallest_hashes(searched, EXAMPLE_ROWS, seed, Stream.EXAMPLE_DATABASE)
        searched = np.sort(searched[sample])
    sample = smallest_hashes(split.queries, count, seed, Stream.EXAMPLE_QUERIES)
    chosen = np.sort(split.queries[sample])
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
