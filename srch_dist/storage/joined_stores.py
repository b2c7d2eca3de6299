"""Feature stores whose rows follow each other, as those of codes with appended rows do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import InputError
from srch_dist.kernels.types import Array
from srch_dist.storage._text_codec import TEXT
from srch_dist.storage.feature_store import FeatureStore


class JoinedStores:
    """Rows of several feature stores, one store after the other.

    Attributes
    ----------
    stores : the feature stores.
    path : their paths, for messages.
    rows : number of rows of all stores.
    side : names of the side arrays that all stores have.
    rows_per_chunk : rows to read at once.
    """

    def __init__(self, stores: Sequence[FeatureStore]) -> None:
        self.stores = tuple(stores)
        self.path = ",".join(store.path for store in stores)
        self.rows = sum(store.rows for store in stores)
        shared = set.intersection(*(set(store.side) for store in stores))
        self.side = tuple(name for name in stores[0].side if name in shared)
        self.rows_per_chunk = max(store.rows_per_chunk for store in stores)
        self._ends = np.cumsum([store.rows for store in stores])

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Read rows ``start`` to ``stop`` - 1 of an array; see `FeatureStore.read`."""
        stop = self.rows if stop is None else min(stop, self.rows)
        parts = []
        for store, end in zip(self.stores, self._ends.tolist(), strict=True):
            first = end - store.rows
            if start < end and stop > first:
                parts.append(store.read(name, max(0, start - first), min(stop - first, store.rows)))
        return _concatenated(name, parts)

    def read_selected(self, name: str, rows: NDArray[np.int64]) -> Array:
        """Read the rows with the ascending numbers ``rows`` (m,)."""
        parts = []
        for store, end in zip(self.stores, self._ends.tolist(), strict=True):
            first = end - store.rows
            here = rows[(rows >= first) & (rows < end)] - first
            if len(here):
                parts.append(store.read_selected(name, here))
        if not parts:
            return self.stores[0].read(name, 0, 0)
        return _concatenated(name, parts)


# Rows with side columns.
Columns = FeatureStore | JoinedStores


def _concatenated(name: str, parts: Sequence[Array]) -> Array:
    shapes = {part.shape[1:] for part in parts}
    kinds: set[Any] = {part.dtype.kind in "UT" for part in parts}
    if len(shapes) > 1 or len(kinds) > 1:
        raise InputError(
            f"{name} differs between the stores: {', '.join(f'{p.dtype} {p.shape}' for p in parts)}"
        )
    if kinds == {True}:
        return np.concatenate([part.astype(TEXT) for part in parts])
    return np.concatenate(parts)
