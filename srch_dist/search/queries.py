"""Read and encode the queries of a search: rows by number or title, features, or a text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srch_dist.encode.input_profile import profile_rows
from srch_dist.encode.inputs import FileInput, open_input
from srch_dist.encode.model import Model
from srch_dist.encode.scoring import score_rows
from srch_dist.errors import ConfigError, InputError, refusal
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.types import Array, IntArray, Matrix, Packed
from srch_dist.search.text import encode_texts
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.joined_stores import Columns
from srch_dist.storage.npy_header import map_npy


@dataclass(frozen=True)
class QueryRequest:
    """Source of the queries: exactly one field is set besides ``modality``.

    Attributes
    ----------
    query : row numbers, for example ``3,17``.
    query_file : file or folder of features (q, d_g) that ingest can read, or .npy of (d_g,).
    text : one text to encode.
    modality : modality of the features. With ``query`` or ``title``, the rows' features of this
        modality in the feature store are encoded. If None, the rows' codes are the queries.
    title : title of a row of the feature store.
    id : ids of rows of the feature store, for example ``a7,b3``, or a tuple of ids.
    array : array or column of ``query_file``, if the file has several.

    Raises
    ------
    ConfigError : no source is set, or more than one.
    """

    query: str | None = None
    query_file: str | None = None
    text: str | None = None
    modality: str | None = None
    title: str | None = None
    id: str | tuple[str, ...] | None = None
    array: str | None = None

    def __post_init__(self) -> None:
        sources = [self.query, self.id, self.title, self.query_file, self.text]
        if sum(value is not None for value in sources) != 1:
            raise ConfigError("give exactly one of --query, --id, --title, --query-file and --text")
        if self.array is not None and self.query_file is None:
            raise ConfigError("--array names an array of --query-file, which is missing")


@dataclass(frozen=True)
class Queries:
    """Encoded queries.

    Attributes
    ----------
    names : q names to display.
    codes : (q, l / 8) packed codes.
    scores : (q, l) real-valued scores; None if only codes are known.
    warnings : what the user should know about the features.
    """

    names: list[str]
    codes: Packed
    scores: Matrix | None
    warnings: tuple[str, ...] = ()


def read_queries(
    request: QueryRequest, model: Model, codes: CodeStore, store: Columns | None
) -> Queries:
    """Read and encode the queries of a request.

    Raises
    ------
    ConfigError : a modality or store is missing.
    InputError : the file of features cannot be read, or the model cannot encode the features.
    """
    if request.query is not None:
        rows = _row_numbers(request.query)
        return _rows([f"row {row}" for row in rows], rows, request, model, codes, store)
    if request.title is not None:
        row = _row_of_title(request.title, store)
        return _rows([f"row {row}: {request.title}"], np.array([row]), request, model, codes, store)
    if request.id is not None:
        given = request.id
        wanted = given.split(",") if isinstance(given, str) else list(given)
        return _rows(wanted, rows_of_ids(wanted, store), request, model, codes, store)
    if request.text is not None:
        modality = request.modality or "text"
        features = encode_texts([request.text], model, modality)
        return encode_queries([request.text], model, modality, features)
    if request.modality is None:
        raise ConfigError(f"--query-file needs --modality; the model has {', '.join(model.means)}")
    path = str(request.query_file)
    if path.endswith(".npy"):
        features = _read_features(path)
    else:
        features = _read_other_file(path, model, request.modality, request.array)
    names = [f"query {number}" for number in range(len(features))]
    return encode_queries(names, model, request.modality, features)


def _rows(
    names: list[str],
    rows: IntArray,
    request: QueryRequest,
    model: Model,
    codes: CodeStore,
    store: Columns | None,
) -> Queries:
    """Use rows as queries: their codes, or if a modality is set, their encoded features."""
    row_codes = codes.read_scattered(rows)
    if request.modality is None:
        return Queries(names, row_codes, None)
    if store is None:
        raise ConfigError("--modality with --query needs --data, the feature store of the rows")
    ascending, inverse = np.unique(rows, return_inverse=True)
    features = store.read_selected(request.modality, ascending)[inverse]
    return encode_queries(names, model, request.modality, features)


def _row_of_title(title: str, store: Columns | None) -> int:
    """Return the number of the first row with the title ``title``.

    If there is none, return the first row whose title starts with ``title`` and a comma.
    """
    if store is None:
        raise ConfigError("--title needs --data, the feature store of the codes")
    if "titles" not in store.side:
        raise InputError(f"{store.path} has no array 'titles'; name the row with --query ROW")
    wanted = title.strip().casefold()
    continued: int | None = None
    for start in range(0, store.rows, store.rows_per_chunk):
        texts = store.read("titles", start, start + store.rows_per_chunk)
        for place, values in enumerate(texts.reshape(len(texts), -1)):
            for value in values:
                shown = str(value).strip().casefold()
                if shown == wanted:
                    return start + place
                if continued is None and shown.startswith(f"{wanted},"):
                    continued = start + place
    if continued is None:
        raise InputError(f"no row of {store.path} has the title {title!r}")
    return continued


def rows_of_ids(wanted: list[str], store: Columns | None) -> IntArray:
    """Return the row number of each id, in the order of ``wanted``.

    Raises
    ------
    ConfigError : there is no store.
    InputError : the store has no ids, an id is missing, or two rows have it.
    """
    if store is None:
        raise ConfigError("--id needs --data, the feature store of the codes")
    if "ids" not in store.side:
        raise InputError(f"{store.path} has no array 'ids'; name rows with --query ROW")
    found: dict[str, int] = {}
    names = set(wanted)
    for start in range(0, store.rows, store.rows_per_chunk):
        values = store.read("ids", start, start + store.rows_per_chunk)
        for place, value in enumerate(values.reshape(len(values), -1)[:, 0].tolist()):
            if (name := str(value)) in names:
                if name in found:
                    raise InputError(
                        f"rows {found[name]} and {start + place} of {store.path} both have the id "
                        f"{name!r}; name the row with --query ROW"
                    )
                found[name] = start + place
    for name in wanted:
        if name not in found:
            raise InputError(f"no row of {store.path} has the id {name!r}")
    return np.array([found[name] for name in wanted], np.int64)


def encode_queries(names: list[str], model: Model, modality: str, features: Array) -> Queries:
    """Encode raw features (q, d_g) as queries; raises InputError as `score_rows` does."""
    scores = score_rows(model, modality, features)
    warnings = profile_rows(model, modality, features).warnings(modality)
    return Queries(names, pack_codes(sign_codes(scores)), scores, tuple(warnings))


def _row_numbers(text: str) -> IntArray:
    try:
        return np.array([int(part) for part in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise ConfigError(f"--query is {text!r}, expected row numbers such as 3,17") from None


def _read_other_file(path: str, model: Model, modality: str, array: str | None) -> Array:
    """Read all features of anything that `encode` reads."""
    rows = open_input(path, model, modality, array)
    if isinstance(rows, FileInput):
        return np.concatenate([block for _, block in rows.blocks(rows.rows)])
    return rows.read(modality)


def _read_features(path: str) -> Array:
    try:
        features = np.array(map_npy(path))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; save query features with numpy.save") from None
    except (OSError, ValueError, MemoryError) as error:
        raise refusal(InputError, f"cannot read queries from {path}: {error}", error) from None
    if features.ndim == 0 or features.dtype.kind not in "fiub":
        raise InputError(f"{path} is not one array of numbers. Save the features with numpy.save.")
    return features[None] if features.ndim == 1 else features
