"""Queries of a search: rows of a store, a file of features, or text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import Model
from srch_dist.encode.scoring import score_rows
from srch_dist.errors import ConfigError, InputError
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.types import Packed
from srch_dist.search.text import encode_texts
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.feature_store import FeatureStore


@dataclass(frozen=True)
class QueryRequest:
    """Which queries to take; exactly one of ``query``, ``query_file`` and ``text`` is set.

    Attributes
    ----------
    query : row numbers of the codes, as ``3,17``. query_file : .npy file of features (rows, d).
    text : one text. modality : what the features are of.
    """

    query: str | None = None
    query_file: str | None = None
    text: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Queries:
    """Encoded queries.

    Attributes
    ----------
    names : how each query is shown. codes : packed, (queries, l / 8).
    scores : real-valued bits (queries, l); None where only codes are known.
    """

    names: list[str]
    codes: Packed
    scores: NDArray[np.float64] | None


def read_queries(
    request: QueryRequest, model: Model, codes: CodeStore, store: FeatureStore | None
) -> Queries:
    """Read and encode the queries of a request.

    Raises
    ------
    ConfigError : none or several kinds of query, or a modality or store is missing.
    InputError : the file of features cannot be read.
    """
    given = [request.query, request.query_file, request.text]
    if sum(value is not None for value in given) != 1:
        raise ConfigError("give one of --query, --query-file and --text")
    if request.query is not None:
        rows = _row_numbers(request.query)
        names = [f"row {row}" for row in rows]
        own = codes.read_scattered(rows)
        if request.modality is None:
            return Queries(names, own, None)
        if store is None:
            raise ConfigError("--modality with --query needs --data, the features of the rows")
        order = np.unique(rows, return_inverse=True)
        features = store.read_selected(request.modality, order[0])[order[1]]
        return _encoded(names, model, request.modality, features)
    if request.text is not None:
        modality = request.modality or "text"
        return _encoded(
            [request.text], model, modality, encode_texts([request.text], model, modality)
        )
    if request.modality is None:
        raise ConfigError(f"--query-file needs --modality; the model has {', '.join(model.means)}")
    features = _read_features(str(request.query_file))
    names = [f"query {place}" for place in range(len(features))]
    return _encoded(names, model, request.modality, features)


def _encoded(names: list[str], model: Model, modality: str, features: NDArray[Any]) -> Queries:
    scores = score_rows(model, modality, features)
    return Queries(names, pack_codes(sign_codes(scores)), scores)


def _row_numbers(text: str) -> NDArray[np.int64]:
    try:
        return np.array([int(part) for part in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise ConfigError(f"query is {text!r}; write row numbers, as 3,17") from None


def _read_features(path: str) -> NDArray[Any]:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read queries from {path}: {error}") from None
    if not isinstance(features, np.ndarray) or features.dtype.kind not in "fiub":
        raise InputError(f"{path} does not hold one array of numbers")
    return features[None] if features.ndim == 1 else features
