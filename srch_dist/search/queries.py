"""Queries of a search: rows of a store, a file of features, or text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.encode.model import Model
from srch_dist.encode.scoring import score_rows
from srch_dist.errors import ConfigError, InputError
from srch_dist.kernels.packed_codes import Packed, pack_codes, sign_codes
from srch_dist.search.__main__ import _Options
from srch_dist.search.text import encode_texts
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.feature_store import FeatureStore

# Candidates that are ranked again for each row asked for.
_CANDIDATES = 10


@dataclass(frozen=True)
class _Queries:
    names: list[str]
    codes: Packed
    scores: NDArray[np.float64] | None


def _queries(
    options: _Options, model: Model, codes: CodeStore, store: FeatureStore | None
) -> _Queries:
    given = [options.query, options.query_file, options.text]
    if sum(value is not None for value in given) != 1:
        raise ConfigError("give one of --query, --query-file and --text")
    if options.query is not None:
        rows = _row_numbers(options.query)
        names = [f"row {row}" for row in rows]
        own = codes.read_scattered(rows)
        if options.modality is None:
            return _Queries(names, own, None)
        if store is None:
            raise ConfigError("--modality with --query needs --data, the features of the rows")
        order = np.unique(rows, return_inverse=True)
        features = store.read_selected(options.modality, order[0])[order[1]]
        return _encoded(names, model, options.modality, features)
    if options.text is not None:
        modality = options.modality or "text"
        return _encoded(
            [options.text], model, modality, encode_texts([options.text], model, modality)
        )
    if options.modality is None:
        raise ConfigError(f"--query-file needs --modality; the model has {', '.join(model.means)}")
    features = _read_features(str(options.query_file))
    names = [f"query {place}" for place in range(len(features))]
    return _encoded(names, model, options.modality, features)


def _encoded(names: list[str], model: Model, modality: str, features: NDArray[Any]) -> _Queries:
    scores = score_rows(model, modality, features)
    return _Queries(names, pack_codes(sign_codes(scores)), scores)


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
