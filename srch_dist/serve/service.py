"""What the server does for a request: encode, find rows, and show side columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from srch_dist.encode.model import Model, load_model
from srch_dist.encode.provenance import check_model, check_store
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import ConfigError, InputError
from srch_dist.kernels.types import Array, Mask, Packed
from srch_dist.search.collection import Part, search_parts
from srch_dist.search.filters import filter_rows
from srch_dist.search.hamming import SearchResult
from srch_dist.search.queries import Queries, QueryRequest, encode_queries, read_queries
from srch_dist.search.results import choose_shown, result_records
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.joined_stores import Columns
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class Limits:
    """Largest request that the server answers.

    Attributes
    ----------
    top : results per query.
    queries : queries per request.
    body_bytes : bytes of a request.
    """

    top: int = 1000
    queries: int = 256
    body_bytes: int = 8 << 20


class SearchService:
    """A model and the codes that it made, in memory.

    Parameters
    ----------
    model : run directory of a finished run.
    codes : code stores, searched as one.
    data : feature store of each of the codes, or one for all; empty if there is none.
    limits : largest request.
    """

    def __init__(
        self, model: str, codes: Sequence[str], data: Sequence[str], limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.model: Model = load_model(open_run(model).path)
        opened = [open_codes(path) for path in codes]
        stores: list[Columns | None] = [open_store(path) for path in data]
        if len(stores) not in (0, 1, len(opened)):
            raise ConfigError("--data names one store for all --codes, or one for each")
        by_codes = stores * len(opened) if len(stores) == 1 else stores or [None] * len(opened)
        parts = []
        for each, store in zip(opened, by_codes, strict=True):
            check_model(each, self.model, model)
            if store is not None:
                check_store(each, store)
            parts.append(Part(each.hold(), store))
        self.parts: tuple[Part, ...] = tuple(parts)
        self._mask = lru_cache(maxsize=64)(self._filter)

    @property
    def rows(self) -> int:
        """Number of rows that can be found."""
        return sum(part.codes.rows - len(part.codes.deleted) for part in self.parts)

    @property
    def columns(self) -> list[str]:
        """Names of the side columns."""
        stores = [part.store for part in self.parts if part.store is not None]
        return list(dict.fromkeys(name for store in stores for name in store.side))

    def encode(self, modality: str, vectors: Sequence[Sequence[float]]) -> Packed:
        """Encode raw features; raises InputError as `encode_rows` does."""
        return encode_rows(self.model, modality, self._matrix(vectors))

    def queries(self, request: QueryRequest) -> Queries:
        """Read the queries of a request by row, id, title or text."""
        found = read_queries(request, self.model, self.parts[0].codes, self.parts[0].store)
        self._check_count(len(found.names))
        return found

    def vector_queries(self, modality: str, vectors: Sequence[Sequence[float]]) -> Queries:
        """Encode the feature vectors of a request as queries."""
        names = [f"query {number}" for number in range(len(vectors))]
        return encode_queries(names, self.model, modality, self._matrix(vectors))

    def search(
        self, queries: Queries, top: int, rerank: bool = False, where: str | None = None
    ) -> SearchResult:
        """Find the nearest rows, exactly; with ``where``, among the rows that a filter allows."""
        self.check_top(top)
        if rerank and queries.scores is None:
            raise InputError("rerank needs features: give vectors, a text, or a modality")
        parts = self.parts if where is None else self._filtered(where)
        return search_parts(parts, queries.codes, top, queries.scores if rerank else None)

    def records(
        self, queries: Queries, found: SearchResult, show: str | None
    ) -> list[dict[str, object]]:
        """Return the results as JSON values, with side columns; ``show`` None shows the usual."""
        return result_records(queries, found, self.parts, choose_shown(self.parts, show))

    def check_top(self, top: int) -> None:
        """Raise InputError for a number of results beyond the limit."""
        if not 1 <= top <= min(self.limits.top, self.rows):
            raise InputError(f"top is {top}, expected 1 to {min(self.limits.top, self.rows)}")

    def _matrix(self, vectors: Sequence[Sequence[float]]) -> Array:
        self._check_count(len(vectors))
        try:
            return np.array(vectors, np.float64)
        except ValueError:
            raise InputError("the vectors have different lengths") from None

    def _check_count(self, count: int) -> None:
        if not 1 <= count <= self.limits.queries:
            raise InputError(
                f"the request has {count} queries, expected 1 to {self.limits.queries}"
            )

    def _filtered(self, where: str) -> list[Part]:
        if any(part.store is None for part in self.parts):
            raise InputError("a filter needs the server's option --data")
        return [
            replace(part, allowed=self._mask(part.store.path, where))
            for part in self.parts
            if part.store is not None
        ]

    def _filter(self, path: str, where: str) -> Mask:
        store = next(part.store for part in self.parts if part.store and part.store.path == path)
        return filter_rows(store, where)


PAGE = Path(__file__).parent / "page.html"
