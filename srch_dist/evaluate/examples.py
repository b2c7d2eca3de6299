"""Queries of a run and what their codes find, in plain values that can be kept and shown."""

from __future__ import annotations

import base64
import io
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import load_model
from srch_dist.errors import ExtraError
from srch_dist.evaluate.searching import Example, example_queries
from srch_dist.extras import require
from srch_dist.kernels.retrieval_metrics import relevance
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunResults

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
